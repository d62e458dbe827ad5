"""The workflow through sbatch, with profiles/slurm, on a real Slurm with this machine as its node: .ci/start-slurm."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from workflow_runs import TINY, succeed, write_config

from negspike.training.weights import read_tensors

PROFILE = str(ROOT / "profiles" / "slurm")
WEIGHTS = "results/tiny/tiny/seed0/k1/weights.pt"
ACCURACY = "results/tiny/tiny/seed0/k1/accuracy.txt"
TRAININGS = [f"results/tiny/tiny/seed0/{precision}/weights.pt" for precision in ("fp32", "k1")]
LOG = "results/tiny/logs/tiny/seed0/k1/train.log"
ONE_K = TINY | {"quantization_levels": [1]}
EPOCHS = 100
PHASE = {"epochs": EPOCHS, "learning_rate": 1.0e-3}
# Long enough to be caught in the middle, on any machine.
LONG = TINY | {"definitions": {"tiny": TINY["definitions"]["tiny"] | {"phases": [PHASE]}}}  # type: ignore[index]


def why_not() -> str | None:
    """Why these tests cannot run here. A Slurm of other machines is left alone: they do not see this one's files."""
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        return "snakemake-executor-plugin-slurm is not installed: pip install -e '.[workflow,slurm]'"
    for tool in ("sinfo", "sbatch", "squeue", "scancel"):
        if shutil.which(tool) is None:
            return f"no Slurm: {tool} is not installed; .ci/start-slurm says how one starts"
    try:
        nodes = subprocess.run(["sinfo", "-h", "-N", "-o", "%N %T"], capture_output=True, text=True, timeout=20)
    except subprocess.TimeoutExpired:
        return "no Slurm: sinfo does not answer; start one with .ci/start-slurm"
    up = [line.split()[0] for line in nodes.stdout.splitlines() if line.split()[1] in ("idle", "mixed", "allocated")]
    if not {"localhost", socket.gethostname()} & set(up):
        return "no Slurm has this machine as a node that is up; start one with .ci/start-slurm"
    return None


REASON = why_not()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(REASON is not None, reason=str(REASON))]


@dataclass(frozen=True)
class Job:
    """What Slurm says of a job: its rule with wildcards, what it asked for, and when it ran."""

    id: str
    rule: str
    state: str
    limit: str
    memory: str
    cpus: str
    gpus: str
    submitted: datetime
    started: datetime
    ended: datetime


def jobs(folder: Path) -> list[Job]:
    """All jobs submitted from ``folder``, in order, finished ones too."""
    columns = ["JobID", "Comment", "State", "TimeLimit", "MinMemory", "NumCPUs", "tres-per-job"]
    form = ",".join(f"{column}:|" for column in [*columns, "SubmitTime", "StartTime", "EndTime", "WorkDir"])
    command = ["squeue", "--states=all", "--noheader", "--sort=i", f"--Format={form}"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    rows = [line.split("|") for line in lines]
    found = []
    for *words, submitted, started, ended, workdir, _ in rows:
        job_id, rule, state, limit, memory, cpus, gpus = words
        times = _when(submitted), _when(started), _when(ended)
        if workdir == str(folder):
            found.append(Job(job_id, rule, state, limit, memory, cpus, gpus, *times))
    return found


def _when(cell: str) -> datetime:
    """Slurm's N/A, not yet known, is later than any time."""
    return datetime.max if cell == "N/A" else datetime.fromisoformat(cell)


class Run:
    """Snakemake with the Slurm profile, started in a new folder."""

    def __init__(self, folder: Path, config: object, *arguments: str, profile: str = "--workflow-profile") -> None:
        folder.mkdir()
        self.folder, self._output = folder, folder / "snakemake.txt"
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), profile, PROFILE]
        command += ["--configfile", write_config(folder, config)]
        command += ["--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "2", *arguments]
        with open(self._output, "w") as stream:
            self._process = subprocess.Popen(command, cwd=folder, stdout=stream, stderr=subprocess.STDOUT)

    def finished(self) -> Path:
        """Wait until it has succeeded; its folder."""
        try:
            code = self._process.wait(timeout=600)  # seven times what two idle cores take
        except subprocess.TimeoutExpired:
            pytest.fail(f"Snakemake does not end:\n{self._output.read_text()}")
        assert code == 0, self._output.read_text()
        return self.folder

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()  # Snakemake cancels its jobs
            self._process.wait(timeout=60)


def until(condition: Callable[[], bool], what: str, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.05)


def training_under_way(folder: Path) -> bool:
    log = folder / LOG
    return log.exists() and f"epoch 3/{EPOCHS} done" in log.read_text()


def assert_it_went_on(folder: Path, uninterrupted: Path) -> None:
    """The last attempt started from the checkpoint, and nobody can tell from the result."""
    log = (folder / LOG).read_text()
    went_on = re.search(rf"going on after epoch (\d+) of {EPOCHS}", log)
    # an epoch is reported before its checkpoint is written: epoch 3 was, so that of epoch 2 is there
    assert went_on and 2 <= int(went_on[1]) < EPOCHS, log
    epochs = [int(epoch) for epoch in re.findall(rf"epoch (\d+)/{EPOCHS} done", log)]
    assert epochs == list(range(int(went_on[1]) + 1, EPOCHS + 1))
    expected, found = (read_tensors(where / WEIGHTS)["weights"] for where in (uninterrupted, folder))
    assert found.keys() == expected.keys() and len(found) > 5
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert history(folder) == history(uninterrupted)


def history(folder: Path) -> list[str]:
    """What the training wrote about its epochs; not how long they took."""
    lines = (folder / WEIGHTS).with_name("history.csv").read_text().splitlines()
    assert lines[0].endswith(",seconds")
    return [line.rpartition(",")[0] for line in lines]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Run]]:
    """All runs of these tests at once: what they do is wait, for Slurm and for Snakemake's next look at its jobs."""
    place = tmp_path_factory.mktemp("slurm")
    started: dict[str, Run] = {}

    def start(name: str, *arguments: object, **options: str) -> None:
        started[name] = Run(place / name, *arguments, **options)  # type: ignore[arg-type]

    try:
        start("limited", LONG, "--set-resources", "train:runtime=attempt", "--", WEIGHTS)
        start("cancelled", LONG, "--", WEIGHTS)
        # The others have the time that a limit takes to be reached.
        disturb({place / "limited": stop_processes, place / "cancelled": cancel_job})
        start("whole", ONE_K)
        # threads are a machine's, as memory is; what they are must not change what is computed here
        start("one_k", ONE_K, "--set-threads", "evaluate=2", "--", ACCURACY)
        start("sharded", ONE_K | {"evaluation": {"shards": 3}}, "--", ACCURACY)
        # with --profile, profiles/default is read as well: its number of GPUs must not hold back a cluster's
        gpu = ["--set-resources", "train:gpu=1"]
        start("one_gpu", ONE_K, *gpu, "--", *TRAININGS, profile="--profile")
        yield started
    finally:
        for run in started.values():
            run.stop()


@pytest.fixture(scope="module")
def whole(runs: dict[str, Run]) -> Path:
    """A folder in which the whole tiny experiment has gone through Slurm."""
    return runs["whole"].finished()


@pytest.fixture(scope="module")
def uninterrupted(runs: dict[str, Run], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the long training has run in one go, without Slurm."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    succeed(folder, "--snakefile", str(ROOT / "Snakefile"), "--configfile", write_config(folder, LONG), "--", WEIGHTS)
    return folder


def disturb(actions: dict[Path, Callable[[Path], None]]) -> None:
    """Do what is to be done to each folder's training once that is under way."""
    waiting = dict(actions)

    def all_done() -> bool:
        for folder in [folder for folder in waiting if training_under_way(folder)]:
            waiting.pop(folder)(folder)
        return not waiting

    until(all_done, "trainings under way")


def cancel_job(folder: Path) -> None:
    subprocess.run(["scancel", jobs(folder)[0].id], check=True)


def stop_processes(folder: Path) -> None:
    """Stop the training in ``folder``: a process that does not move reaches its time limit on every machine."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            mine = (process / "cwd").readlink() == folder and b"train.py" in (process / "cmdline").read_bytes()
        except OSError:
            continue
        if mine:
            os.kill(int(process.name), signal.SIGSTOP)


def test_the_whole_experiment(whole: Path) -> None:
    for figure in ("accuracy_speed", "sparsity", "sops"):
        assert (whole / "results" / "tiny" / "figs" / f"{figure}.pdf").stat().st_size > 0
    assert len((whole / "results/tiny/table.csv").read_text().splitlines()) == 2
    trainings = {f"rule_train_wildcards_tiny_0_{precision}" for precision in ("fp32", "k1")}
    found = jobs(whole)
    # what takes seconds did not queue
    assert sorted(job.rule for job in found) == sorted({*trainings, "rule_evaluate_wildcards_tiny_0_k1"})
    assert {job.state for job in found} == {"COMPLETED"}


def test_jobs_ask_for_what_their_rule_says(whole: Path) -> None:
    threads = {"rule_train": "1", "rule_evalu": "4"}
    for job in jobs(whole):
        assert (job.limit, job.memory, job.gpus) == ("12:00:00", "4000M", "N/A")
        assert job.cpus == threads[job.rule[:10]]


def test_one_k_alone(whole: Path, runs: dict[str, Run]) -> None:
    folder = runs["one_k"].finished()
    assert [(job.rule.removeprefix("rule_"), job.cpus) for job in jobs(folder)] == [
        ("train_wildcards_tiny_0_k1", "1"),
        ("evaluate_wildcards_tiny_0_k1", "2"),
    ]
    assert (folder / ACCURACY).read_bytes() == (whole / ACCURACY).read_bytes()


def test_an_evaluation_in_shards(whole: Path, runs: dict[str, Run]) -> None:
    """Each shard is a job of its own; what they are gathered to, where Snakemake runs, are the bytes of one job."""
    folder = runs["sharded"].finished()
    shards = [job for job in jobs(folder) if job.rule.startswith("rule_evaluate")]
    names = sorted(f"rule_evaluate_shard_wildcards_tiny_0_k1_{number}-of-3" for number in (1, 2, 3))
    assert sorted(job.rule for job in shards) == names
    assert {(job.state, job.cpus) for job in shards} == {("COMPLETED", "4")}
    for name in ("accuracy.txt", "sop_num.txt", "spike_collect.txt", "spike_num.txt", "evaluation.npz"):
        paths = [(where / ACCURACY).with_name(name) for where in (folder, whole)]
        assert paths[0].read_bytes() == paths[1].read_bytes(), name


def test_a_cancelled_training_goes_on_where_it_was(uninterrupted: Path, runs: dict[str, Run]) -> None:
    folder = runs["cancelled"].finished()
    first, second = jobs(folder)
    assert (first.state, first.limit, first.memory) == ("CANCELLED", "12:00:00", "4000M")
    # tried again with twice as much of what a job may run out of
    assert (second.state, second.limit, second.memory) == ("COMPLETED", "1-00:00:00", "8000M")
    assert_it_went_on(folder, uninterrupted)


def test_a_training_over_its_time_limit_goes_on_with_more(uninterrupted: Path, runs: dict[str, Run]) -> None:
    """A minute is Slurm's shortest limit. On a busy machine two are not enough either."""
    folder = runs["limited"].finished()
    *stopped, last = [(job.state, job.limit) for job in jobs(folder)]
    assert stopped == [("TIMEOUT", f"{minutes}:00") for minutes in range(1, len(stopped) + 1)] and stopped
    assert last == ("COMPLETED", f"{len(stopped) + 1}:00")
    assert_it_went_on(folder, uninterrupted)


def test_one_gpu_is_never_given_two_trainings(whole: Path, runs: dict[str, Run]) -> None:
    first, second = sorted(jobs(runs["one_gpu"].finished()), key=lambda job: job.started)
    assert first.gpus == second.gpus == "gres:gpu:1"
    assert second.submitted < first.ended, "Slurm had no choice: they came one after the other"
    assert second.started >= first.ended
    # without GPUs, both are submitted at once as well, and trainings do run side by side on this node: which of all
    # runs' is Slurm's choice
    both = [job for job in jobs(whole) if "train" in job.rule]
    assert max(job.submitted for job in both) < min(job.ended for job in both)
    others = [runs[name].finished() for name in ("one_k", "cancelled", "limited")]
    trainings = both + [job for folder in others for job in jobs(folder) if "train" in job.rule]
    assert any(one.started < other.ended and other.started < one.ended for one, other in combinations(trainings, 2))
