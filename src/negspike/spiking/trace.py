"""Single neurons while one image is shown: potentials and net counts, step by step, of the reference engine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from negspike.errors import InputError
from negspike.fixed_point import integer_images
from negspike.spiking.bounds import check_potentials, reach
from negspike.spiking.graph import SpikingNetwork
from negspike.spiking.linear import settled_int64
from negspike.spiking.nodes import INPUT, MaxPool, sources
from negspike.spiking.reference import steps

# Of each population.
MOST_NEURONS = 128


@dataclass(frozen=True, eq=False)
class Trace:
    """What became of one image; T time steps, P populations, M neurons that were watched.

    Attributes:
        populations: (P,) names, in the order of the network.
        sizes: (P,) int64, neurons of each.
        positive, negative: (P, T) int64, spikes of all neurons in each step.
        population: (M,) int64, of which population each watched neuron is, counted from 0.
        neuron: (M,) int64, its index there, in the order of channels, rows, columns.
        potentials: (M, T) int64, membrane potentials z after each step's input.
        counts: (M, T) int64, net spike counts after each step.
        theta, base: (M,) int64: a neuron emits +1 where z >= base + (n + 1) theta, -1 where z < base + n theta.
        activations: (M,) int64, those of the integer ANN, in closed form.
    """

    populations: tuple[str, ...]
    sizes: np.ndarray
    positive: np.ndarray
    negative: np.ndarray
    population: np.ndarray
    neuron: np.ndarray
    potentials: np.ndarray
    counts: np.ndarray
    theta: np.ndarray
    base: np.ndarray
    activations: np.ndarray

    @property
    def spikes(self) -> np.ndarray:
        """(M, T) int64, +1, -1 or 0: what each watched neuron emitted in each step."""
        return np.diff(self.counts, axis=1, prepend=0)


def trace(network: SpikingNetwork, image: np.ndarray, *, timesteps: int, neurons: int = MOST_NEURONS) -> Trace:
    """Simulate one image, up to the first step in which nothing happens any more.

    Args:
        network: the integer spiking network.
        image: (C, H, W) standardised floats, rounded to the fractional bits of the network.
        timesteps: never more than these.
        neurons: how many to watch in each population: all, or so many at equal distances.

    Raises:
        InputError: the image does not fit the network, there is nothing to see, or potentials could leave 64 bits.
    """
    encoded = integer_images(np.asarray(image)[None], network.image_fraction_bits)
    if encoded.shape[1:] != network.input_shape:
        raise InputError(f"the image has shape {encoded.shape[1:]}, expected {network.input_shape}")
    if timesteps < 1 or not network.populations:
        raise InputError(f"{timesteps} time steps of {len(network.populations)} populations show nothing")
    check_potentials(network, timesteps=timesteps, largest_pixel=int(np.abs(encoded).max(initial=0)))
    every = network.populations
    watched = [np.unique(np.linspace(0, one.neurons - 1, neurons).astype(np.int64)) for one in every]
    channel = [index // (one.shape[1] * one.shape[2]) for one, index in zip(every, watched, strict=True)]
    positive, negative, potentials, counts = [], [], [], []
    for step in steps(network, encoded, timesteps):
        spikes = [step.emitted[one.name] for one in every]
        positive.append([int((emitted > 0).sum()) for emitted in spikes])
        negative.append([int((emitted < 0).sum()) for emitted in spikes])
        potentials.append(_watched(network, step.potentials, watched))
        counts.append(_watched(network, step.counts, watched))
        if not any(emitted.any() for name, emitted in step.emitted.items() if name != INPUT):
            break
    return Trace(
        populations=tuple(one.name for one in every),
        sizes=np.array([one.neurons for one in every]),
        positive=np.array(positive).T,
        negative=np.array(negative).T,
        population=np.repeat(np.arange(len(every)), [len(index) for index in watched]),
        neuron=np.concatenate(watched),
        potentials=np.stack(potentials, 1),
        counts=np.stack(counts, 1),
        theta=np.concatenate([one.theta[index] for one, index in zip(every, channel, strict=True)]),
        base=np.concatenate([one.base[index] for one, index in zip(every, channel, strict=True)]),
        activations=_watched(network, _settled(network, encoded), watched),
    )


def _watched(network: SpikingNetwork, values: dict[str, np.ndarray], watched: list[np.ndarray]) -> np.ndarray:
    """(M,) of (1, channels, height, width) values of each population, by name."""
    return np.concatenate(
        [values[one.name].ravel()[index] for one, index in zip(network.populations, watched, strict=True)]
    )


def _settled(network: SpikingNetwork, encoded: np.ndarray) -> dict[str, np.ndarray]:
    """Every node at rest, without simulating it."""
    values = {INPUT: encoded}
    for node in network.nodes:
        largest = {name: int(np.abs(values[name]).max(initial=0)) for name in sources(node)}
        if isinstance(node, MaxPool):
            values[node.name] = node.window.largest(values[node.source])
        elif reach(node, largest) >> 63:
            raise InputError(f"{node.name}: its input is too large for 64-bit potentials; scale the image down")
        else:
            values[node.name] = settled_int64(node, values)
    return values
