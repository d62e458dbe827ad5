"""The jobs of a run, done and still to do, as ``snakemake --summary`` lists them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from negspike.errors import InputError

SUMMARY_COLUMNS = ("output_file", "rule", "plan")
STAGES = ("download", "prepare_dataset", "train_phase", "convert", "evaluate", "summarize_training")
_NETWORK = re.compile(r"(?P<net>[^/]+)/(?P<seed>seed\d+)/(?P<precision>fp32|k\d)/(?:phase(?P<phase>\d+)\.)?[^/]*")


@dataclass(frozen=True)
class Job:
    """One job of the workflow.

    Attributes:
        rule: the rule's name.
        path: what it makes, without suffix; the folder where it makes several files of a network.
        net, seed, precision: the network that it is about, such as cnn1, seed0 and k1; empty where it is about none.
        phase: of a training, from 1; else 0.
    """

    rule: str
    path: Path
    net: str = ""
    seed: str = ""
    precision: str = ""
    phase: int = 0

    def __str__(self) -> str:
        about = [self.net, self.seed, self.precision, f"phase{self.phase}"] if self.phase else [str(self.path)]
        return " ".join([self.rule, *about])


def read_plan(summary: str) -> dict[Job, bool]:
    """The jobs in what ``snakemake --summary`` prints, and whether each is still to do.

    Args:
        summary: a table separated by tabs, one line for every file that a job of the plan writes.

    Raises:
        InputError: it is not such a table.
    """
    header, *lines = summary.splitlines() or [""]
    names = header.split("\t")
    if not set(SUMMARY_COLUMNS) <= set(names):
        raise InputError(f"snakemake --summary gives {header[:60]!r}: expected columns {', '.join(SUMMARY_COLUMNS)}")
    jobs: dict[Job, bool] = {}
    for line in lines:
        row = dict(zip(names, line.split("\t"), strict=True))
        path, found = Path(row["output_file"]), None
        if row["rule"] in STAGES:
            found = _NETWORK.fullmatch("/".join(path.parts[-4:]))
        if found is None:
            job = Job(row["rule"], path.with_suffix(""))
        else:
            net, seed, precision, phase = found.groups()
            job = Job(row["rule"], path.parent, net, seed, precision, int(phase or 0))
        jobs[job] = jobs.get(job, False) or row["plan"] != "no update"
    return jobs
