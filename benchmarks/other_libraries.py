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

from benchmarks.contestants import LIBRARIES
from benchmarks.float_network import FloatNetwork
from negspike import SpikingNetwork
from negspike.errors import one_line

Neuron = Callable[[torch.Tensor], torch.Tensor]


def missing(library: str) -> str | None:
    """Why a library cannot be used here, or None if it can."""
    try:
        importlib.import_module(LIBRARIES[library][0])
    except Exception as error:  # a half-installed library may raise anything
        return f"{type(error).__name__}: {one_line(error)}"
    return None


def make_neuron(library: str) -> Neuron:
    """One layer's neurons: (steps, N, channels, height, width) currents to spikes of the same shape."""
    module = importlib.import_module(LIBRARIES[library][0])
    if library == "spikingjelly":
        neuron: Neuron = module.IFNode(v_threshold=1.0, v_reset=None, step_mode="m").eval()
        return neuron
    if library == "sinabs":
        iaf = module.IAF().eval()
        return lambda currents: iaf(currents.transpose(0, 1)).transpose(0, 1)
    leaky = module.Leaky(beta=1.0, init_hidden=True, reset_mechanism="subtract").eval()
    return lambda currents: leaky(currents[0])[None]


def present(network: SpikingNetwork, library: str, images: np.ndarray, at_once: int) -> Callable[[], torch.Tensor]:
    """Present (N, C, H, W) standardised images.

    Returns:
        What simulates the next ``at_once`` time steps and gives (N, classes) logits after them.
    """
    floats, size = FloatNetwork(network), len(images)
    neurons = [make_neuron(library) for _ in floats.shapes]
    with torch.inference_mode():
        # Presented in every step, not once, the image needs no factor of 2^k.
        current = floats.first_current(images) * network.populations[0].step
        counts = torch.zeros((size, *floats.shapes[-1]))

    @torch.inference_mode()
    def advance() -> torch.Tensor:
        spikes = neurons[0](current.expand(at_once, *current.shape))
        for number, neuron in enumerate(neurons[1:], 1):
            currents = floats.current(number, spikes.reshape(at_once * size, *spikes.shape[2:]))
            spikes = neuron(currents.reshape(at_once, size, *currents.shape[1:]))
        counts.add_(spikes.sum(0))
        return floats.logits(counts)

    return advance
