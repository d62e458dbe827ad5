"""What a simulation records: per image and step, per layer and step (docs/counting.md)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from negspike.spiking.logs import batch_logs, write_logs
from negspike.training.topology import Layer, Topology


def windows_per_input(geometry: Layer) -> np.ndarray:
    """In how many windows of a layer each position of its input lies, (height, width) int64; padding costs nothing."""
    axes = []
    for axis in (0, 1):
        size, outputs = geometry.in_shape[axis + 1], geometry.out_shape[axis + 1]
        starts = np.arange(outputs) * geometry.stride - geometry.padding[axis][0]
        position = np.arange(size)[:, None]
        axes.append(((position >= starts) & (position < starts + geometry.kernel[axis])).sum(1))
    windows: np.ndarray = np.outer(*axes).astype(np.int64)
    return windows


def synapses_per_spike(topology: Topology) -> list[np.ndarray]:
    """Synaptic operations that one spike of each layer causes in the next, (height, width) int64 a layer.

    A spike that lies in w windows of the next layer costs w times that layer's outputs; in the classifier, one
    operation a class.
    """
    costs = [windows_per_input(following) * following.out_shape[0] for following in topology.layers[1:]]
    last = topology.layers[-1].out_shape
    return [*costs, np.full(last[1:], topology.classes, np.int64)]


@dataclass
class Recording:
    """Numbers of one chunk of images, filled in by an engine, one time step after the other.

    Attributes:
        predictions: (N, T) int64, the class with the largest logit after each step, lowest index first.
        positive: (N, T, layers) int64, positive spikes emitted in each step.
        negative: (N, T, layers) int64, negative spikes emitted in each step.
        sops: (N, T) int64, synaptic operations of each step.
        counts: per layer, (N, outputs, height, width) int32 net spike counts at the end.
        potential_bounds: (layers,) int64, what the absolute value of 32-bit potentials is proved to have stayed below;
            zero where a layer has none.
    """

    predictions: np.ndarray
    positive: np.ndarray
    negative: np.ndarray
    sops: np.ndarray
    counts: list[np.ndarray]
    potential_bounds: np.ndarray

    @classmethod
    def empty(cls, topology: Topology, images: int, timesteps: int) -> Recording:
        """All zeros."""
        return cls(
            np.zeros((images, timesteps), np.int64),
            np.zeros((images, timesteps, len(topology.layers)), np.int64),
            np.zeros((images, timesteps, len(topology.layers)), np.int64),
            np.zeros((images, timesteps), np.int64),
            [],
            np.zeros(len(topology.layers), np.int64),
        )


_PER_STEP = ("correct", "spikes", "net_spikes", "sops", "positive", "negative")


@dataclass(frozen=True)
class SimulationLog:
    """What :func:`negspike.simulate` returns; N images, T time steps.

    Attributes:
        correct: (N, T) bool, whether the prediction after each step is right.
        spikes: (N, T) int64, spikes so far, positive and negative, all spiking layers.
        net_spikes: (N, T) int64, positive minus negative spikes so far.
        sops: (N, T) int64, synaptic operations so far.
        positive: (layers, T) int64, positive spikes emitted in each step, summed over the images.
        negative: (layers, T) int64, the same for negative spikes.
        predictions: (N,) int64, after the last step.
        silent: (N,) bool, whether the image had come to rest: no spike in the last step.
        counts: per layer, (N, outputs, height, width) int32 net counts at the end; empty when they were handed over
            chunk by chunk instead.
        batch_size: images that share one run of lines in the log files.
        potential_bounds: (layers,) int64, as in :class:`Recording`, of all images.
    """

    correct: np.ndarray
    spikes: np.ndarray
    net_spikes: np.ndarray
    sops: np.ndarray
    positive: np.ndarray
    negative: np.ndarray
    predictions: np.ndarray
    silent: np.ndarray
    counts: list[np.ndarray]
    batch_size: int
    potential_bounds: np.ndarray

    @classmethod
    def from_recording(cls, recording: Recording, labels: np.ndarray, batch_size: int) -> SimulationLog:
        """The log of one chunk of images; (N,) labels decide what is correct."""
        predictions = recording.predictions
        positive, negative = recording.positive.sum(2), recording.negative.sum(2)
        return cls(
            correct=predictions == np.asarray(labels)[:, None],
            spikes=(positive + negative).cumsum(1),
            net_spikes=(positive - negative).cumsum(1),
            sops=recording.sops.cumsum(1),
            positive=recording.positive.sum(0).T,
            negative=recording.negative.sum(0).T,
            predictions=predictions[:, -1],
            silent=(positive + negative)[:, -1] == 0,
            counts=recording.counts,
            batch_size=batch_size,
            potential_bounds=recording.potential_bounds,
        )

    def until_silent(self) -> SimulationLog:
        """The log up to the step in which nothing spikes any more, or all of it if some image spikes to the end."""
        busy = np.flatnonzero((self.positive + self.negative).sum(0))
        stop = min(int(busy[-1]) + 2 if len(busy) else 1, self.correct.shape[1])
        if stop == self.correct.shape[1]:
            return self
        shorter = {name: getattr(self, name)[:, :stop] for name in _PER_STEP}
        return replace(self, silent=np.ones_like(self.silent), **shorter)

    @classmethod
    def join(cls, parts: list[SimulationLog]) -> SimulationLog:
        """One log of several, image after image; shorter ones go on as they ended, since their images are silent."""
        steps = max(part.correct.shape[1] for part in parts)
        missing = [(0, 0), (0, steps)]

        def lengthened(name: str, mode: Literal["edge", "constant"]) -> list[np.ndarray]:
            return [np.pad(getattr(part, name), missing, mode)[:, :steps] for part in parts]

        return cls(
            **{name: np.concatenate(lengthened(name, "edge")) for name in ("correct", "spikes", "net_spikes", "sops")},
            **{name: np.sum(lengthened(name, "constant"), 0) for name in ("positive", "negative")},
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in ("predictions", "silent")},
            counts=[np.concatenate(layer) for layer in zip(*(part.counts for part in parts), strict=True)],
            batch_size=parts[0].batch_size,
            potential_bounds=np.max([part.potential_bounds for part in parts], 0),
        )

    def write(self, directory: Path | str) -> None:
        """Write accuracy.txt, spike_num.txt, spike_collect.txt and sop_num.txt in the published format."""
        logs = batch_logs(self.correct, self.spikes, self.net_spikes, self.sops, self.batch_size)
        write_logs(logs, Path(directory))
