"""A network that watches images change, next to simulating each of them from the beginning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from negspike.data.dataset import load_dataset
from negspike.data.images import prepare_images
from negspike.data.registry import dataset_spec
from negspike.errors import InputError
from negspike.precision import Precision
from negspike.results.evaluation import NotLosslessError
from negspike.results.origin import check_belongs
from negspike.spiking.graph import SpikingNetwork
from negspike.spiking.simulation import simulate
from negspike.spiking.stream import Stream
from negspike.stages.run import Hardware, Report
from negspike.tables import write_csv

# Side by side; each is cut to the test image that lies so many further on.
STREAMS = 10
# What happens, frame by frame: columns that the image is shifted by, and how many eighths of its rows, from the top.
_HERE = ((0, 8),)
_STILL, _MOVES = _HERE * 4, tuple((columns, 8) for columns in (1, 2, 1, 0, -1, -2, -1, 0))
_IN_PARTS = tuple((1, eighths) for eighths in range(1, 9))
SCENES = (
    ("first", _HERE),
    ("still", _STILL),
    ("moves", _MOVES),
    ("cut", _HERE),
    ("still", _STILL),
    ("moves in parts", _IN_PARTS),
)


def stream_images(
    precision: str,
    net: Mapping[str, Any],
    *,
    spiking: Path,
    images: Path,
    output: Path,
    hardware: Hardware,
    report: Report,
) -> None:
    """Show frames of test images that stand still, move and are cut; write ``stream.csv``.

    Args:
        precision: of the network, ``k1`` for instance.
        net: what the net is, as :meth:`negspike.config.Definition.science` gives it.
        spiking: the spiking network.
        images: the prepared dataset.
        output: the table to write: a row a frame and stream.
        hardware: to compute on.
        report: takes the progress line.

    Raises:
        InputError: a file is damaged, or there are not enough test images.
        NotLosslessError: a silent stream is not where a fresh simulation of its image ends.
    """
    data = load_dataset(dataset_spec(net["dataset"]), images)
    network = SpikingNetwork.load(spiking)
    check_belongs(network, spiking, Precision.parse(precision), data)
    if len(data.test.labels) < 2 * STREAMS:
        raise InputError(f"{images}: {len(data.test.labels)} test images, {2 * STREAMS} are streamed")
    kinds = [kind for kind, shifts in SCENES for _ in shifts]
    frames = prepare_images(data.spec, np.concatenate(_frames(data.test.pixels)))
    fresh = simulate(network, frames, threads=hardware.threads, device=hardware.device)
    stream = Stream(network, device=hardware.device, threads=hardware.threads)
    rows: list[dict[str, Any]] = []
    before = np.zeros_like(frames[:STREAMS])
    for number, kind in enumerate(kinds):
        part = slice(number * STREAMS, (number + 1) * STREAMS)
        log, changed = stream.feed(frames[part]), (frames[part] != before).any(1).sum((1, 2))
        before = frames[part]
        silent = (log.silent >= 0) & (fresh.silent[part] >= 0)
        equal = np.all(
            [(counts == fresh.counts[name][part]).all((1, 2, 3)) for name, counts in log.counts.items()], axis=0
        )
        if (silent & ~equal).any():
            raise NotLosslessError(f"frame {number}: a silent stream is not where a fresh simulation ends")
        values = {
            "changed_pixels": changed,
            "sops": log.sops[:, -1],
            "fresh_sops": fresh.sops[part, -1],
            "steps": log.silent,
            "fresh_steps": fresh.silent[part],
            "equal": equal.astype(int),
        }
        rows += [
            {"frame": number, "stream": one, "kind": kind, **{name: int(found[one]) for name, found in values.items()}}
            for one in range(STREAMS)
        ]
    write_csv(output, rows)
    report(f"{sum(row['equal'] for row in rows)} of {len(rows)} frames equal to a fresh simulation in every neuron")


def _frames(pixels: np.ndarray) -> list[np.ndarray]:
    """(STREAMS, C, H, W) pixels of each frame; what comes in from beside an image is 0."""
    first, frames = 0, []
    for kind, shifts in SCENES:
        first += STREAMS * (kind == "cut")
        for shift, eighths in shifts:
            frame = pixels[first : first + STREAMS].copy()
            rows, width = frame.shape[2] * eighths // 8, frame.shape[3]
            moved = np.zeros_like(frame[:, :, :rows])
            here, there = (slice(max(by, 0), width + min(by, 0)) for by in (shift, -shift))
            moved[..., here] = frame[:, :, :rows, there]
            frame[:, :, :rows] = moved
            frames.append(frame)
    return frames
