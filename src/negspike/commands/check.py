"""Check a configuration, and tell what it would cost on this machine.

All of it is counted from its beginning; `snakemake check` in a clone counts what is still to do.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from negspike.commands.images import positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "config", type=Path, nargs="?", metavar="CONFIG", help="laid over the published experiment; default: that alone"
    )
    parser.add_argument("--cores", type=positive, metavar="N", help="that jobs share (default: all)")


def run(options: argparse.Namespace) -> int:
    """Print the estimate; the exit code is 1 if something will make the run fail."""
    import torch

    from negspike.commands.configuration import read_configuration
    from negspike.estimate.check import PROBLEM, check
    from negspike.estimate.cost import experiment_jobs
    from negspike.estimate.probe import measure
    from negspike.estimate.reserved import RESERVED
    from negspike.machine import read_machine
    from negspike.user_files import FOLDERS

    if options.config:  # files that it names may lie beside it
        os.environ[FOLDERS] = str(options.config.parent)
    experiment, machine = read_configuration(options.config), read_machine()
    cores = options.cores or machine.cores
    jobs = dict.fromkeys(experiment_jobs(experiment), True)
    threads = {rule: min(amounts["threads"], cores) for rule, amounts in RESERVED.items()}
    speeds = measure(experiment, list(jobs), threads=threads, report=lambda line: print(line, file=sys.stderr))
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    lines = check(experiment, jobs, speeds, cores=cores, reserved=RESERVED, machine=machine, gpus=gpus)
    print(*lines, sep="\n")
    return int(any(line.startswith(PROBLEM) for line in lines))
