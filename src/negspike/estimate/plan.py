"""The jobs that are still to do, as Snakemake plans them, and how long they take side by side."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from negspike.config import Experiment
from negspike.errors import InputError

SUMMARY_COLUMNS = ("output_file", "rule", "plan")
_WILDCARD = re.compile(r"\{(\w+)(?:,[^{}]*)?\}")


@dataclass(frozen=True)
class Resources:
    """What one job of a rule reserves.

    Attributes:
        threads: CPU cores.
        gpus: GPUs, 0 where there is none.
        memory_mb: in MB; a cluster ends jobs that take more.
    """

    threads: int
    gpus: int
    memory_mb: int


@dataclass(frozen=True)
class Limits:
    """What Snakemake may use at once; None for no limit.

    Attributes:
        cores: ``--cores``.
        gpus: the resource ``gpu``.
        memory_mb: the resource ``mem_mb``.
    """

    cores: int
    gpus: int | None = None
    memory_mb: int | None = None


@dataclass(frozen=True)
class Job:
    """One job of the workflow.

    Attributes:
        rule: the rule's name.
        wildcards: its wildcards, such as net, seed and k, as (name, value) pairs.
        todo: whether Snakemake would run it.
    """

    rule: str
    wildcards: tuple[tuple[str, str], ...]
    todo: bool

    def __getitem__(self, wildcard: str) -> str:
        return dict(self.wildcards)[wildcard]


def read_plan(summary: str, patterns: Mapping[str, str]) -> list[Job]:
    """The jobs in what ``snakemake --summary`` prints.

    Args:
        summary: a table separated by tabs, one line for every file that a job of the plan writes.
        patterns: the first output of every rule, with its wildcards in braces. A job writes it exactly once.

    Raises:
        InputError: it is not such a table, or knows a rule that ``patterns`` does not.
    """
    header, *lines = summary.splitlines() or [""]
    names = header.split("\t")
    if not set(SUMMARY_COLUMNS) <= set(names):
        raise InputError(f"snakemake --summary gives {header[:60]!r}: expected columns {', '.join(SUMMARY_COLUMNS)}")
    expressions = {rule: _expression(pattern) for rule, pattern in patterns.items()}
    jobs = []
    for line in lines:
        row = dict(zip(names, line.split("\t"), strict=True))
        if row["rule"] not in expressions:
            raise InputError(f"snakemake --summary names rule {row['rule']!r}, which the workflow does not have")
        match = expressions[row["rule"]].fullmatch(row["output_file"])
        if match:
            todo = row["plan"] != "no update"
            jobs.append(Job(row["rule"], tuple(sorted(match.groupdict().items())), todo))
    return jobs


def count_jobs(jobs: Iterable[Job]) -> dict[str, tuple[int, int]]:
    """For each rule, in the order of the workflow's stages: jobs still to do and jobs done."""
    jobs = list(jobs)
    todo, done = (Counter(job.rule for job in jobs if job.todo is wanted) for wanted in (True, False))
    rules = sorted({job.rule for job in jobs}, key=lambda rule: (_stage(rule), rule))
    return {rule: (todo[rule], done[rule]) for rule in rules}


def schedule(
    jobs: Sequence[Job],
    seconds: Mapping[Job, float],
    resources: Mapping[str, Resources],
    limits: Limits,
    experiment: Experiment,
) -> float:
    """Seconds until the last job ends when jobs start as Snakemake starts them: what is ready and fits.

    Args:
        jobs: all of them; what is done takes no time.
        seconds: of each job that is to do.
        resources: what a job of each rule reserves.
        limits: what the jobs that run side by side share.
        experiment: says what a job waits for.
    """
    waiting = sorted((job for job in jobs if job.todo), key=lambda job: _stage(job.rule))
    missing = {result for job in waiting for result in _gives(job)}
    needs = {job: _share(resources[job.rule], limits) for job in waiting}
    free = _share(Resources(limits.cores, _LARGE, _LARGE), limits)
    running: list[tuple[float, Job]] = []
    now = 0.0
    while waiting or running:
        for job in list(waiting):
            fits = all(need <= left for need, left in zip(needs[job], free, strict=True))
            if fits and not any(result in missing for result in _needs(job, experiment)):
                waiting.remove(job)
                running.append((now + seconds[job], job))
                free = tuple(left - need for need, left in zip(needs[job], free, strict=True))
        now, job = min(running, key=lambda pair: pair[0])
        running.remove((now, job))
        missing -= set(_gives(job))
        free = tuple(left + need for need, left in zip(needs[job], free, strict=True))
    return now


_LARGE = 1 << 62


def _share(resources: Resources, limits: Limits) -> tuple[int, ...]:
    """Threads, GPUs and memory that a job takes of the limits, cut down to them as Snakemake does."""
    return (
        min(resources.threads, limits.cores),
        min(resources.gpus, _LARGE if limits.gpus is None else limits.gpus),
        min(resources.memory_mb, _LARGE if limits.memory_mb is None else limits.memory_mb),
    )


def side_by_side(rule: str, resources: Mapping[str, Resources], limits: Limits) -> int:
    """How many jobs of a rule run at once, if there are that many."""
    needs, free = _share(resources[rule], limits), _share(Resources(limits.cores, _LARGE, _LARGE), limits)
    return max(1, min(left // need for need, left in zip(needs, free, strict=True) if need))


def _expression(pattern: str) -> re.Pattern[str]:
    # text, wildcard, text, wildcard, ..., text
    parts = _WILDCARD.split(pattern)
    return re.compile(
        "".join(f"(?P<{part}>[^/]+)" if index % 2 else re.escape(part) for index, part in enumerate(parts))
    )


_STAGES = ("download", "prepare_dataset", "train_phase", "convert", "evaluate", "summarize_training")


def _stage(rule: str) -> int:
    """Where a rule stands in the workflow; figures and tables come last."""
    return _STAGES.index(rule) if rule in _STAGES else len(_STAGES)


Result = tuple[str, ...]


def _network(job: Job) -> Result:
    precision = dict(job.wildcards).get("precision") or f"k{job['k']}"
    return (job["net"], job["seed"], precision)


def _gives(job: Job) -> list[Result]:
    """What other jobs may wait for."""
    if job.rule == "download":
        return [("archive", job["dataset"], job["file"])]
    if job.rule == "prepare_dataset":
        return [("images", job["dataset"])]
    if job.rule == "train_phase":
        return [("weights", *_network(job), job["phase"])]
    if job.rule in ("convert", "evaluate", "summarize_training"):
        return [(job.rule, *_network(job))]
    return []


def _needs(job: Job, experiment: Experiment) -> list[Result]:
    """What a job waits for; what no job of the plan gives is there already."""
    if job.rule == "download":
        return []
    if job.rule == "prepare_dataset":
        return [("archive", job["dataset"], file) for file in experiment.sources[job["dataset"]]]
    if job.rule in ("train_phase", "convert", "evaluate", "summarize_training"):
        definition = experiment.definitions[job["net"]]
        images: list[Result] = [("images", definition.dataset)]
        if job.rule == "train_phase":
            return [*images, ("weights", *_network(job), str(int(job["phase"]) - 1))]
        weights: Result = ("weights", *_network(job), str(len(definition.phases)))
        return [*images, weights, ("convert", *_network(job))] if job.rule == "evaluate" else [weights]
    networks = [(net, str(seed)) for net in experiment.nets for seed in experiment.seeds]
    evaluations = [("evaluate", *network, f"k{k}") for network in networks for k in experiment.k]
    return [*evaluations, *(("summarize_training", *network, "fp32") for network in networks)]
