"""What a simulation records: per image and step, per population and step (docs/counting.md)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from negspike.errors import InputError
from negspike.spiking.graph import SpikingNetwork
from negspike.spiking.logs import batch_logs, write_logs
from negspike.spiking.nodes import Neurons
from negspike.tables import Table


@dataclass(eq=False)
class Recording:
    """Numbers of one chunk of images, filled in by an engine, one time step after the other.

    Attributes:
        populations: their names, in the order of the network; P of them.
        predictions: (N, T) int64, the class with the largest logit after each step, lowest index first.
        positive: (N, T, P) int64, positive spikes emitted in each step.
        negative: (N, T, P) int64, negative spikes emitted in each step.
        layer_sops: (N, T, L) int64, synaptic operations of each step in each of the network's L layers.
        relays: (N, T) int64, changes passed on from sum to sum in each step.
        counts: for each population, (N, channels, height, width) int32 net spike counts at the end.
        logits: (N, classes) int64 at the end.
        potential_bounds: (P,) int64, what the absolute value of 32-bit potentials is proved to have stayed below;
            zero where a population has none.
    """

    populations: tuple[str, ...]
    predictions: np.ndarray
    positive: np.ndarray
    negative: np.ndarray
    layer_sops: np.ndarray
    relays: np.ndarray
    counts: dict[str, np.ndarray]
    logits: np.ndarray
    potential_bounds: np.ndarray

    @classmethod
    def empty(cls, network: SpikingNetwork, *, images: int, timesteps: int) -> Recording:
        """All zeros."""
        names = tuple(population.name for population in network.populations)
        return cls(
            populations=names,
            predictions=np.zeros((images, timesteps), np.int64),
            positive=np.zeros((images, timesteps, len(names)), np.int64),
            negative=np.zeros((images, timesteps, len(names)), np.int64),
            layer_sops=np.zeros((images, timesteps, len(network.layers)), np.int64),
            relays=np.zeros((images, timesteps), np.int64),
            counts={},
            logits=np.zeros((images, network.classes), np.int64),
            potential_bounds=np.zeros(len(names), np.int64),
        )

    @staticmethod
    def bytes_per_step(network: SpikingNetwork) -> int:
        """Memory of one step of one image."""
        return 8 * (2 + 2 * len(network.populations) + len(network.layers))

    @property
    def sops(self) -> np.ndarray:
        """(N, T) int64, synaptic operations of each step."""
        total: np.ndarray = self.layer_sops.sum(2)
        return total

    @property
    def still_spiking(self) -> bool:
        """Whether there was a spike in the last step."""
        return bool(self.positive[:, -1].any() or self.negative[:, -1].any())

    def add_spikes(
        self,
        node: Neurons,
        t: int,
        *,
        positive: np.ndarray,
        negative: np.ndarray,
        images: np.ndarray | slice = slice(None),
    ) -> None:
        """Note how many spikes (n,) of each sign a population emitted in step ``t`` in some of the images."""
        number = self.populations.index(node.name)
        self.positive[images, t, number], self.negative[images, t, number] = positive, negative


_PER_STEP = ("spikes", "net_spikes", "sops", "relays", "positive", "negative", "layer_sops")


@dataclass(frozen=True, eq=False, repr=False)
class SimulationLog(Table):
    """What :func:`negspike.simulate` returns; N images, T time steps, P populations.

    Attributes:
        correct: (N, T) bool, whether the prediction after each step is right; None without labels.
        spikes: (N, T) int64, spikes so far, positive and negative, all populations.
        net_spikes: (N, T) int64, positive minus negative spikes so far.
        sops: (N, T) int64, synaptic operations so far.
        relays: (N, T) int64, changes passed on from sum to sum so far.
        positive: (P, T) int64, positive spikes emitted in each step, summed over the images.
        negative: (P, T) int64, the same for negative spikes.
        layer_sops: (L, T) int64, the same for the synaptic operations in each of ``network.layers``.
        predictions: (N,) int64, after the last step.
        logits: (N, classes) float64 after the last step, in the model's units.
        silent: (N,) int64, the first time step, counted from 0, from which on nothing spikes: as many steps have
            passed by then. -1 where the last step still had a spike.
        counts: for each population, (N, channels, height, width) int32 net counts at the end; empty when they were
            handed over chunk by chunk instead.
        batch_size: images that share one run of lines in the log files.
        potential_bounds: (P,) int64, as in :class:`Recording`, of all images.
    """

    correct: np.ndarray | None
    spikes: np.ndarray
    net_spikes: np.ndarray
    sops: np.ndarray
    relays: np.ndarray
    positive: np.ndarray
    negative: np.ndarray
    layer_sops: np.ndarray
    predictions: np.ndarray
    logits: np.ndarray
    silent: np.ndarray
    counts: dict[str, np.ndarray]
    batch_size: int
    potential_bounds: np.ndarray

    @classmethod
    def from_recording(
        cls, recording: Recording, labels: np.ndarray | None, *, batch_size: int, unit: float = 1.0
    ) -> SimulationLog:
        """The log of one chunk of images; (N,) labels decide what is correct, ``unit`` is that of the logits."""
        predictions = recording.predictions
        positive, negative = recording.positive.sum(2), recording.negative.sum(2)
        spikes = positive + negative
        steps = np.arange(1, spikes.shape[1] + 1)
        silent = ((spikes > 0) * steps).max(1, initial=0)
        return cls(
            correct=None if labels is None else predictions == np.asarray(labels)[:, None],
            spikes=spikes.cumsum(1),
            net_spikes=(positive - negative).cumsum(1),
            sops=recording.sops.cumsum(1),
            relays=recording.relays.cumsum(1),
            positive=recording.positive.sum(0).T,
            negative=recording.negative.sum(0).T,
            layer_sops=recording.layer_sops.sum(0).T,
            predictions=predictions[:, -1],
            logits=recording.logits * unit,
            silent=np.where(silent == len(steps), -1, silent),
            counts=recording.counts,
            batch_size=batch_size,
            potential_bounds=recording.potential_bounds,
        )

    @property
    def timesteps(self) -> int:
        """T, the time steps that were simulated."""
        return int(self.spikes.shape[1])

    def until_silent(self) -> SimulationLog:
        """The log up to the step in which nothing spikes any more, or all of it if some image spikes to the end."""
        busy = np.flatnonzero((self.positive + self.negative).sum(0))
        stop = min(int(busy[-1]) + 2 if len(busy) else 1, self.timesteps)
        if stop == self.timesteps:
            return self
        shorter = {name: getattr(self, name)[:, :stop] for name in _PER_STEP}
        return replace(self, correct=None if self.correct is None else self.correct[:, :stop], **shorter)

    @classmethod
    def join(cls, parts: list[SimulationLog]) -> SimulationLog:
        """One log of several, image after image, without net counts; shorter ones go on as they ended, being silent."""
        steps = max(part.timesteps for part in parts)
        missing = [(0, 0), (0, steps)]

        def lengthened(name: str, mode: Literal["edge", "constant"]) -> list[np.ndarray]:
            return [np.pad(getattr(part, name), missing, mode)[:, :steps] for part in parts]

        cumulative = ("spikes", "net_spikes", "sops", "relays", *(() if parts[0].correct is None else ("correct",)))
        joined = {name: np.concatenate(lengthened(name, "edge")) for name in cumulative}
        joined |= {name: np.sum(lengthened(name, "constant"), 0) for name in ("positive", "negative", "layer_sops")}
        for name in ("predictions", "logits", "silent"):
            joined[name] = np.concatenate([getattr(part, name) for part in parts])
        return cls(
            **({"correct": None} | joined),  # type: ignore[arg-type]
            counts={},
            batch_size=parts[0].batch_size,
            potential_bounds=np.max([part.potential_bounds for part in parts], 0),
        )

    def write(self, directory: Path | str) -> None:
        """Write accuracy.txt, spike_num.txt, spike_collect.txt and sop_num.txt in the published format.

        Raises:
            InputError: the images were simulated without labels, so that there is no accuracy.
        """
        if self.correct is None:
            raise InputError("logs in the published format have an accuracy: simulate with labels")
        logs = batch_logs(self.correct, self.spikes, self.net_spikes, self.sops, self.batch_size)
        write_logs(logs, Path(directory))

    def _table(self) -> tuple[str, list[tuple[str, str]]]:
        silent = self.silent[self.silent >= 0]
        latest = f", the last one at step {silent.max()}" if len(silent) else ""
        accuracy = [] if self.correct is None else [("accuracy", f"{self.correct[:, -1].mean():.2%}")]
        return "SimulationLog", [
            ("images", f"{len(self.silent):,}"),
            ("time steps", f"{self.timesteps:,}"),
            ("populations", str(len(self.positive))),
            *accuracy,
            ("images silent", f"{len(silent):,}{latest}"),
            ("spikes an image", f"{self.spikes[:, -1].mean():,.1f}"),
            ("synaptic operations an image", f"{self.sops[:, -1].mean():,.1f}"),
        ]
