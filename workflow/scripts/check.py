"""Tell what the configured experiment would cost on this machine, and whether it would go through."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from negspike.config import resolve_config
from negspike.console import rule_log
from negspike.errors import InputError
from negspike.estimate.check import check, folder_problems, measure
from negspike.estimate.machine import read_machine
from negspike.estimate.plan import Limits, Resources, read_plan


def summary(experiment):
    """What Snakemake itself would do for the whole experiment, as it says with --summary."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.json"
        config.write_text(json.dumps(snakemake.config), encoding="utf-8")
        command = [snakemake.params.python, "-m", "snakemake", "--summary", "--snakefile", snakemake.params.snakefile]
        command += ["--configfile", str(config), "--workflow-profile", "none", "--cores", "1"]
        command += ["--rerun-triggers", *snakemake.params.triggers]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
        raise InputError("; ".join(folder_problems(experiment) or [f"snakemake --summary failed: {lines[-1:]}"]))
    return result.stdout


with rule_log(snakemake.log[0]) as report:
    machine = read_machine()
    experiment = resolve_config(snakemake.config)
    jobs = read_plan(summary(experiment), snakemake.params.patterns)
    threads, gpus, memory_mb = snakemake.params.threads, snakemake.params.gpus, snakemake.params.memory_mb
    resources = {rule: Resources(threads[rule], gpus[rule], memory_mb[rule]) for rule in threads}
    limits = snakemake.params.limits
    limits = Limits(limits["_cores"] or machine.cores, limits["gpu"], limits["mem_mb"])
    speeds = measure(experiment, jobs, resources, limits, report)
    result = check(experiment, jobs, resources, limits, machine, speeds)
    print(result.text(), end="", flush=True)
    with open(snakemake.log[0], "a", encoding="utf-8") as log:
        log.write(result.text())
    if result.problems:
        sys.exit(1)
