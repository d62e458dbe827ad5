"""Synaptic operations: what one spike of each node costs in the nodes that listen to it (docs/counting.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from negspike.spiking.nodes import INPUT, MaxPool, Shape, Sum, Synapses

if TYPE_CHECKING:
    from negspike.spiking.graph import SpikingNetwork


def operations_per_spike(network: SpikingNetwork) -> dict[str, np.ndarray]:
    """Additions that a spike of each neuron, or what a max pool passes on, causes.

    A spike that lies in w windows of a weighted map costs w times the output channels of its group; without weights
    it is added w times. A max pool is reached free of charge. What sums emit costs nothing: those are relays.

    Returns:
        For each node (channels, height, width) int64; (1, height, width) where all channels cost the same.
    """
    return {name: _cost(network, name, shape, sums=False) for name, shape in network.shapes.items() if name != INPUT}


def relays_per_change(network: SpikingNetwork) -> dict[str, np.ndarray]:
    """For each sum, how often a change of an accumulator is passed on to another sum; shapes as above."""
    sums = [node for node in network.nodes if isinstance(node, Sum)]
    return {node.name: _cost(network, node.name, node.shape, sums=True) for node in sums}


def _cost(network: SpikingNetwork, name: str, shape: Shape, *, sums: bool) -> np.ndarray:
    total = np.zeros((1, *shape[1:]), np.int64)
    for listener in network.listeners[name]:
        if isinstance(listener, MaxPool) or isinstance(network.node(name), Sum) != sums:
            continue
        if sums and not isinstance(listener, Sum):
            continue  # it compares the accumulator itself with its thresholds
        for synapses in listener.synapses:
            if synapses.source == name:
                total = total + _windows(synapses, shape)
    return total


def _windows(synapses: Synapses, shape: Shape) -> np.ndarray:
    windows = synapses.window.covered(*shape[1:])[None]
    fan_out = 1 if synapses.weight is None else synapses.outputs // synapses.groups
    if synapses.channels is None:
        return windows * fan_out
    uses = np.bincount(synapses.channels, minlength=shape[0])
    return windows * (fan_out * uses)[:, None, None]
