"""Tell what the configured experiment would cost on this machine, and whether it would go through."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from negspike.config import resolve_config
from negspike.console import rule_log
from negspike.errors import InputError
from negspike.estimate.check import PROBLEM, check, folder_problems
from negspike.estimate.cost import read_plan
from negspike.estimate.probe import measure
from negspike.machine import read_machine


def summary(experiment):
    """What Snakemake itself would do for the whole experiment, as it says with --summary."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.json"
        config.write_text(json.dumps(snakemake.config), encoding="utf-8")
        command = [snakemake.params.python, "-m", "snakemake", "--summary", "--snakefile", snakemake.params.snakefile]
        command += ["--configfile", str(config), "--cores", "1"]
        # whatever the terminal is: folders have names beyond ASCII
        environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
        result = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, check=False)
    if result.returncode:
        lines = [line.strip() for line in result.stderr.splitlines()]
        said = [line for line in lines if line and not line.startswith('File "')]  # where comes after what
        raise InputError("; ".join([*folder_problems(experiment)] or ["snakemake --summary failed: ", *said[-1:]]))
    return result.stdout


with rule_log(snakemake.log[0]) as report:
    machine = read_machine()
    experiment = resolve_config(snakemake.config)
    jobs = read_plan(summary(experiment))
    cores, reserved = snakemake.threads, snakemake.params.reserved
    threads = {rule: min(amounts["threads"], cores) for rule, amounts in reserved.items()}
    speeds = measure(experiment, [job for job, todo in jobs.items() if todo], threads=threads, report=report)
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    lines = check(experiment, jobs, speeds, cores=cores, reserved=reserved, machine=machine, gpus=gpus)
    sys.stdout.reconfigure(errors="backslashreplace")
    print(*lines, sep="\n", flush=True)
    with open(snakemake.log[0], "a", encoding="utf-8") as log:
        print(*lines, sep="\n", file=log)
    if any(line.startswith(PROBLEM) for line in lines):
        sys.exit(1)
