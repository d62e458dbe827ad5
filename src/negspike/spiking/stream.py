"""Streaming: the network keeps its state while the image changes, and only what has changed is fed in.

The accumulated input of every neuron is, at any time, the linear map of what its sources have emitted so far. Adding
the difference of two images therefore leaves it where it would be, had the second one been there from the start; and
since spikes can be taken back, the only rest point is that of the image seen last (docs/exactness.md).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from negspike.arguments import as_array
from negspike.errors import InputError
from negspike.spiking.bounds import check_potentials
from negspike.spiking.dense import DenseEngine, NodeState
from negspike.spiking.graph import SpikingNetwork
from negspike.spiking.recording import SimulationLog
from negspike.spiking.simulation import UNTIL_SILENT, make_engine, most_timesteps


class Stream:
    """A spiking network that watches images change: frames of a video, or the integrated events of a camera.

    Whenever it is silent, its net counts and logits are those of a fresh simulation of the current image, to the last
    integer, whatever came before. Several streams of equal length may be watched side by side.

    Args:
        network: the integer spiking network.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        threads: CPU threads; None is PyTorch's setting.

    Raises:
        InputError: there is no such device, or less than one thread.
    """

    def __init__(self, network: SpikingNetwork, *, device: str = "auto", threads: int | None = None) -> None:
        self.network = network
        engine = make_engine(network, "dense", device=device, threads=threads)
        assert isinstance(engine, DenseEngine)
        self._engine = engine
        self._seen = np.zeros((0, *network.input_shape), np.int64)
        self._states: dict[str, NodeState] = {}

    def feed(self, images: Any, *, timesteps: int | str = UNTIL_SILENT) -> SimulationLog:
        """Show the current image, and simulate.

        Args:
            images: (C, H, W) standardised floats, array or tensor, or (N, C, H, W), one image of each of N streams;
                rounded to the network's ``image_fraction_bits``.
            timesteps: as many, whether the network is silent by then or not; or ``"until_silent"``.

        Returns:
            The log of these time steps alone: spikes and operations since the change, net counts and logits as they are
            now. What the image itself adds is not counted (docs/counting.md).

        Raises:
            InputError: images or time steps do not fit the network, there is none, or another number of streams than
                before.
        """
        frames = as_array("images", images)
        encoded = self.network.encode(frames[None] if frames.ndim == 3 else frames)
        if not len(encoded):
            raise InputError("there is no image to watch")
        if self._states and len(encoded) != len(self._seen):
            raise InputError(f"{len(encoded)} images for {len(self._seen)} streams: each stream takes one")
        steps = most_timesteps(self.network, timesteps)
        held = max((int(state.count.abs().max()) for state in self._states.values()), default=0)
        check_potentials(self.network, timesteps=held + steps, largest_pixel=int(np.abs(encoded).max(initial=0)))
        if not self._states:
            self._states, self._seen = self._engine.start(len(encoded)), np.zeros_like(encoded)
        states, self._states = self._states, {}  # until it is through: what is interrupted starts afresh
        recording = self._engine.advance(states, encoded - self._seen, steps)
        self._states, self._seen = states, encoded
        log = SimulationLog.from_recording(recording, None, batch_size=len(encoded), unit=self.network.readout.unit)
        return log.until_silent() if timesteps == UNTIL_SILENT else log
