"""Runs Snakemake's command lines, one a line of standard input, each in a process forked from this one.

This one has imported Snakemake and what its jobs need, PyTorch above all, which takes longer than most of what the
tests ask of them. Nothing else is shared: a forked process has the arguments, folder, environment and output of a new
one, and reads the workflow or imports the package anew. Where a test changes the environment, jobs are new processes.
"""

import atexit
import importlib
import json
import os
import runpy
import shlex
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import torch

for name in (
    "fontTools.subset",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_pdf",
    "numba.typed",
    "pydantic",
    "safetensors.torch",
    "scipy.linalg",
    "smart_open",
    "snakemake.cli",
    "snakemake.profiles",
    "snakemake.report.html_reporter",
    "snakemake.storage",
    "torch._dynamo",
    "torch.export._trace",
):
    importlib.import_module(name)
PATH = sys.path[1:]


class Job:
    """A script of a rule, in place of ``subprocess.Popen`` as Snakemake uses it."""

    def __init__(self, script: str, environment: dict[str, str]) -> None:
        self.pid = os.fork()
        if not self.pid:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            atexit._clear()  # what Snakemake has left to do is not for its jobs
            for name in [name for name in sys.modules if name.partition(".")[0] == "negspike"]:
                del sys.modules[name]
            sys.path[:] = [str(Path(script).parent), *environment["PYTHONPATH"].split(os.pathsep), *PATH]
            torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
            finish(partial(runpy.run_path, script, run_name="__main__"), [script], environment)

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


def start(command: str, **options: Any) -> Job | subprocess.Popen[Any]:
    """What Snakemake's shell starts: a script of Python's from here, all else as ever."""
    *_, program, script = shlex.split(command)
    if program == sys.executable and script.endswith(".py"):
        return Job(script, options["env"])
    return subprocess.Popen(command, **options)


def finish(program: Callable[[], object], arguments: list[str], environment: dict[str, str]) -> NoReturn:
    """Run a program to the end of this process; only the interpreter's own end, which takes seconds, is left out."""
    code = 1
    try:
        sys.argv[:] = arguments
        os.environ.clear()
        os.environ.update(environment)
        program()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


for line in sys.stdin:
    if child := os.fork():
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
        continue
    request = json.loads(line)
    signal.alarm(900)  # what hangs ends as a test that fails
    for source, target in ((os.open(os.devnull, os.O_RDONLY), 0), (os.open(request["output"], os.O_WRONLY), 1), (1, 2)):
        os.dup2(source, target)
    if request["new_session"]:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["folder"])
    sys.path[0] = request["folder"]
    if not request["changes"]:
        shell: Any = sys.modules["snakemake.shell"]
        shell.sp = SimpleNamespace(**vars(subprocess) | {"Popen": start})
    program = partial(runpy.run_module, "snakemake", run_name="__main__", alter_sys=True)
    finish(program, [sys.argv[0], *request["arguments"]], request["environment"])
