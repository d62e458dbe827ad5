"""Runs Snakemake's command lines, one a line of standard input, each in a process forked from this one.

This one has imported Snakemake, which takes longer than most of what the tests ask of it. Nothing else is shared: the
forked process has the arguments, folder, environment and output of a new one, and reads the workflow anew.
"""

import json
import os
import runpy
import signal
import sys

import snakemake.cli  # noqa: F401

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
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv[1:], sys.path[0] = request["arguments"], request["folder"]
    runpy.run_module("snakemake", run_name="__main__", alter_sys=True)
    break
