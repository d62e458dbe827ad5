"""Synaptic operations: what one spike of each node costs in the nodes that listen to it (docs/counting.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from negspike.spiking.nodes import Layer, MaxPool, Neurons, Shape, Sum, Synapses

if TYPE_CHECKING:
    from negspike.spiking.graph import SpikingNetwork


def operations_per_spike(network: SpikingNetwork) -> dict[str, dict[int, np.ndarray]]:
    """Additions that a spike of each neuron, or what a max pool passes on, causes in each layer that listens to it.

    A spike that lies in w windows of a weighted map costs w times the output channels of its group; without weights
    it is added w times. A max pool is reached free of charge. What sums emit costs nothing: those are relays.

    Returns:
        For each node that spikes, by the listener's index in ``network.layers``, (channels, height, width) int64;
        (1, height, width) where all channels cost the same.
    """
    spiking = (node for node in network.nodes if isinstance(node, Neurons | MaxPool))
    return {
        node.name: {
            number: _cost(layer, node.name, node.shape)
            for number, layer in enumerate(network.layers)
            if layer in network.listeners[node.name]
        }
        for node in spiking
    }


def relays_per_change(network: SpikingNetwork) -> dict[str, np.ndarray]:
    """For each sum, how often a change of an accumulator is passed on to another sum; shapes as above."""
    sums = [node for node in network.nodes if isinstance(node, Sum)]
    # whatever else listens compares the accumulator itself with its thresholds
    return {
        node.name: sum(
            (_cost(other, node.name, node.shape) for other in network.listeners[node.name] if isinstance(other, Sum)),
            np.zeros((1, *node.shape[1:]), np.int64),
        )
        for node in sums
    }


def _cost(listener: Layer, name: str, shape: Shape) -> np.ndarray:
    windows = [_windows(synapses, shape) for synapses in listener.synapses if synapses.source == name]
    return sum(windows[1:], windows[0])


def _windows(synapses: Synapses, shape: Shape) -> np.ndarray:
    windows = synapses.window.covered(*shape[1:])[None]
    fan_out = 1 if synapses.weight is None else synapses.outputs // synapses.groups
    if synapses.channels is None:
        return windows * fan_out
    uses = np.bincount(synapses.channels, minlength=shape[0])
    return windows * (fan_out * uses)[:, None, None]
