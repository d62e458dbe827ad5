"""The same topology and weights in other spiking libraries, with their own integrate-and-fire neurons.

None of them has negative spikes, so theirs is another network with other spike counts: only image-steps per second can
be compared. Their reset subtracts the threshold. The image's current is convolved once and then given in every step,
as a constant input is, so that the first layer costs them no more than it costs us.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.float_network import FloatNetwork
from negspike.spiking.graph import SpikingNetwork

Neuron = Callable[[torch.Tensor], torch.Tensor]

# What each must be able to import, and how many time steps its neurons may be given at once.
LIBRARIES = {
    "spikingjelly": ("spikingjelly.activation_based.neuron", (1, 10)),
    "sinabs": ("sinabs.layers", (1, 10)),
    "snntorch": ("snntorch", (1,)),
}


def missing(library: str) -> str | None:
    """Why a library cannot be used here, or None if it can."""
    try:
        importlib.import_module(LIBRARIES[library][0])
    except Exception as error:  # a half-installed library may raise anything
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return None


def make_neuron(library: str) -> Neuron:
    """One layer's neurons: (steps, N, channels, height, width) currents to spikes of the same shape."""
    if library == "spikingjelly":
        jelly = importlib.import_module("spikingjelly.activation_based.neuron")
        neuron: Neuron = jelly.IFNode(v_threshold=1.0, v_reset=None, step_mode="m").eval()
        return neuron
    if library == "sinabs":
        iaf = importlib.import_module("sinabs.layers").IAF().eval()
        return lambda currents: iaf(currents.transpose(0, 1)).transpose(0, 1)
    leaky = importlib.import_module("snntorch").Leaky(beta=1.0, init_hidden=True, reset_mechanism="subtract").eval()
    return lambda currents: leaky(currents[0])[None]


class LibraryNetwork:
    """Convolutions as in :class:`benchmarks.float_network.FloatNetwork`, neurons of another library.

    Args:
        network: the integer network whose weights it takes over, in units of the thresholds.
        library: one of :data:`LIBRARIES`.
        at_once: time steps that every layer is given at once.
    """

    def __init__(self, network: SpikingNetwork, library: str, at_once: int) -> None:
        self.floats, self.at_once = FloatNetwork(network), at_once
        self.neurons = [make_neuron(library) for _ in self.floats.layers]

    @torch.inference_mode()
    def start(self, images: np.ndarray) -> None:
        """Present (N, C, H, W) standardised images."""
        pixels = torch.from_numpy(np.ascontiguousarray(images, np.float32)).contiguous(
            memory_format=torch.channels_last
        )
        self.current = self.floats.layers[0](pixels)
        self.counts = torch.zeros((len(images), *self.floats.layers[-1].shape))

    @torch.inference_mode()
    def advance(self) -> torch.Tensor:
        """The next ``at_once`` time steps; (N, classes) logits after them."""
        steps, count = self.at_once, len(self.current)
        spikes = self.neurons[0](self.current.expand(steps, *self.current.shape))
        for layer, neuron in zip(self.floats.layers[1:], self.neurons[1:], strict=True):
            currents = layer(spikes.reshape(steps * count, *spikes.shape[2:]))
            spikes = neuron(currents.reshape(steps, count, *currents.shape[1:]))
        self.counts += spikes.sum(0)
        return self.floats.step.logits([-self.counts])
