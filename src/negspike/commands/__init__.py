"""The command ``negspike``: one module a command, and what they have in common.

No module here imports PyTorch before its command runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import atexit
import gc
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from negspike import __version__
from negspike.errors import InputError, limit_reached

COMMANDS = ("convert", "verify", "simulate", "info", "figures", "compare", "check", "export")

# What shells say of a program that nobody listens to any more.
_PIPE_CLOSED = 128 + 13


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, not the whole usage."""
        self.exit(2, f"error: {message} ({self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; what the user got wrong is one line on standard error."""
    parser = _Parser(prog="negspike", description="Lossless integer spiking networks with negative spikes.")
    parser.add_argument("--version", action="version", version=f"negspike {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = importlib.import_module(f"negspike.commands.{name}")
        summary, _, rest = str(module.__doc__).partition("\n")
        one = commands.add_parser(name, help=summary, description=f"{summary} {' '.join(rest.split())}")
        module.add_arguments(one)
        one.set_defaults(run=module.run)
    options = parser.parse_args(arguments)
    atexit.register(gc.freeze)  # the interpreter's last search for garbage, in all of PyTorch, takes most of a second
    code = _PIPE_CLOSED
    try:
        code = int(options.run(options))
        if sys.stdout is not None:  # it may have been closed
            sys.stdout.flush()
        return code
    except BrokenPipeError:  # who reads has seen enough, as head does; what was found by then stays what it is
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return code
    except (InputError, OSError, ArithmeticError) as error:  # an ArithmeticError is a proof that failed
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if not (limit := limit_reached(error)):
            raise
        print(f"error: {limit}", file=sys.stderr)
        return 1
