"""docs/models.md: every classification model of torchvision, converted and verified, or refused with its one line.

python -m benchmarks.models [NAME ...]    the named ones again; without names, those that the page does not have yet

Each model has a process of its own, so that memory is given back, and its row is written as soon as it is there.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import nn

import negspike
from benchmarks.command import command
from negspike.errors import InputError, one_line
from negspike.files import write_text
from negspike.zoo import torchvision_models

PAGE = Path(__file__).parents[1] / "docs" / "models.md"
# Sides of the images that are tried, calibration images, images simulated, largest count of a quantiser.
SIDES, CALIBRATION, IMAGES, LEVELS = (64, 75, 96, 128, 224), 8, 2, 3
HEAD = f"""# Models of torchvision

Every classification model of `torchvision.models`, with random weights, as `python -m benchmarks.models` tries them:
batch norms see {CALIBRATION} random images, then `quantize(model, images, levels={LEVELS})`, `convert` and `verify`,
which simulates {IMAGES} images until they are silent. Each is converted, and **every neuron of every image equals the
integer ANN**, or it is refused with the line that is shown. Images are 64x64, or the least that the model takes.
"Differ" are activations of the quantised model, computed by PyTorch in float64, that are not the integer ANN's.
Seconds are wall time, all of it together, on one core of a busy machine. Random weights say nothing about accuracy.
Where float32 predicts otherwise than the network, it has rounded a neuron the other way
([conversion.md](conversion.md)).

"""
COLUMNS = {
    "converted": "| model | side | populations | neurons | MACs | certified latency | silent after "
    "| differ in float64 | predictions equal in float32 | or else in float64 | seconds |",
    "refused": "| model | the line |",
}
RULES = {"converted": "| --- |" + " ---: |" * 10, "refused": "| --- | --- |"}


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Try what is missing on the page, or the models named, and say how far it is."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description="writes docs/models.md")
    parser.add_argument("names", nargs="*", metavar="NAME", help="models to try again; default: those not yet there")
    zoo = torchvision_models()
    every = zoo.list_models(module=zoo)
    names = parser.parse_args(arguments).names
    unknown = [name for name in names if name not in every]
    if unknown:
        raise InputError(f"torchvision has no classification model {unknown[0]!r}")
    rows = _read()
    wanted = names or [name for name in every if name not in rows]
    for number, name in enumerate(wanted):
        print(f"{number + 1}/{len(wanted)} {name}", end=" ", file=sys.stderr, flush=True)
        rows[name] = _in_a_process(name)
        print(rows[name], file=sys.stderr, flush=True)
        _write(rows)
    return sum("FAILED" in row for row in rows.values())


def _in_a_process(name: str) -> str:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(attempt, name).result()
        except BrokenProcessPool:
            return f"| {name} | FAILED: the process was killed; memory? |"


def attempt(name: str) -> str:
    """The row of one model."""
    torch.set_num_threads(1)
    start = time.perf_counter()
    try:
        model, side = made(name)
        images = torch.randn(CALIBRATION, 3, side, side)
        quantised = negspike.quantize(model, images, levels=LEVELS)
        del model
        network = negspike.convert(quantised, images[:1])
        checked = negspike.verify(network, images[:IMAGES], quantised, threads=1)
    except InputError as error:
        return f"| {name} | {one_line(error)} |"
    except Exception as error:  # the page says so, and the others are tried
        return f"| {name} | FAILED: {type(error).__name__}: {one_line(error)[:300]} |"
    if not checked.lossless:
        return f"| {name} | FAILED: {one_line(ValueError(checked))} |"
    bound, latest = checked.latency_bound, checked.latest_silent_step
    alike = checked.predictions["quantised model"]
    assert checked.equal_model_neurons is not None and checked.float64_predictions is not None
    differing = f"{checked.model_neurons - checked.equal_model_neurons:,} of {checked.model_neurons:,}"
    equal = f"{differing} | {alike} of {IMAGES} | {alike + checked.float64_predictions} of {IMAGES}"
    counted = f"{len(network.populations)} | {network.neurons:,} | {network.macs:,} | {bound} | {latest} | {equal}"
    return f"| {name} | {side} | {counted} | {time.perf_counter() - start:.0f} |"


def made(name: str, classes: int = 1000) -> tuple[nn.Module, int]:
    """A random model in evaluation mode whose batch norms have seen random images, and the side of those."""
    torch.manual_seed(0)
    model: nn.Module = torchvision_models().get_model(name, weights=None, num_classes=classes).eval()
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for side in SIDES:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean of all
            norm.train()
        try:
            with torch.no_grad():
                model(torch.randn(CALIBRATION, 3, side, side))
        except (RuntimeError, ValueError, AssertionError):
            if side == SIDES[-1]:
                raise
            continue
        break
    return model.eval(), side


def _read() -> dict[str, str]:
    """The rows of the page by model."""
    lines = PAGE.read_text(encoding="utf-8").splitlines() if PAGE.is_file() else []
    found = ((re.match(r"\| (\w+) \|", line), line) for line in lines)
    return {match[1]: line for match, line in found if match and match[1] != "model"}


def _write(rows: dict[str, str]) -> None:
    parts: dict[str, list[str]] = {"converted": [], "refused": []}
    for name in sorted(rows):
        parts["converted" if rows[name].count("|") > 3 else "refused"].append(rows[name])
    text = HEAD
    for kind, lines in parts.items():
        text += f"## {kind.capitalize()}: {len(lines)}\n\n" + "\n".join([COLUMNS[kind], RULES[kind], *lines]) + "\n\n"
    write_text(PAGE, text.rstrip("\n") + "\n")


if __name__ == "__main__":
    sys.exit(main())
