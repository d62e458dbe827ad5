"""What can be proved of a network before it runs: how long until it is silent, and that no integer overflows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from negspike.errors import InputError
from negspike.spiking.nodes import INPUT, MaxPool, Neurons, Readout, Sum, sources

if TYPE_CHECKING:
    from negspike.spiking.graph import SpikingNetwork

FLOAT64_EXACT = 1 << 53
# Max pools compare counts as float32 in one of the engines.
MOST_STEPS, MOST_STEPS_POOLED = (1 << 31) - 1, (1 << 24) - 1


def latency_bound(network: SpikingNetwork) -> int | None:
    """Time steps after which no neuron spikes any more, whatever the image; None if a population has no bounds.

    Once everything that a neuron listens to is at rest, it steps towards its final count in every time step, at most
    high - low times (docs/exactness.md, "Certified latency").
    """
    rest = {INPUT: 0}
    for node in network.nodes:
        rest[node.name] = max(rest[name] for name in sources(node))
        if isinstance(node, Neurons):
            if node.low is None or node.high is None:
                return None
            rest[node.name] += node.high - node.low
    return max(rest.values())


def largest_counts(network: SpikingNetwork, *, timesteps: int, largest_pixel: int) -> dict[str, int]:
    """What each node can have emitted in all, in absolute value, after ``timesteps`` steps.

    Args:
        network: the network.
        timesteps: T; a neuron emits at most one spike in each.
        largest_pixel: largest absolute pixel of the encoded images.
    """
    most = {INPUT: largest_pixel}
    for node in network.nodes:
        if isinstance(node, Neurons):
            bounds = [timesteps if bound is None else abs(bound) for bound in (node.low, node.high)]
            most[node.name] = min(timesteps, max(bounds))
        elif isinstance(node, MaxPool):
            most[node.name] = most[node.source]
        else:
            most[node.name] = reach(node, most)
    return most


def check_potentials(network: SpikingNetwork, *, timesteps: int, largest_pixel: int) -> None:
    """Prove that no potential of a run can leave 64 bits, and no sum of spikes in the readout the 53 of float64.

    Raises:
        InputError: the proof fails, for the node it names.
    """
    pooled = any(isinstance(node, MaxPool) for node in network.nodes)
    if timesteps > (MOST_STEPS_POOLED if pooled else MOST_STEPS):
        bits = 24 if pooled else 32
        raise InputError(f"timesteps is {timesteps}: net spike counts are {bits} bits wide; simulate fewer")
    most = largest_counts(network, timesteps=timesteps, largest_pixel=largest_pixel)
    for node in network.layers:
        fired = (most[node.name] + 1) * int(node.theta.max()) if isinstance(node, Neurons) else 0
        if reach(node, most) + fired >> 63:
            raise InputError(
                f"{node.name}: potentials could leave 64 bits in {timesteps} time steps; "
                "simulate fewer or convert with fewer weight_bits"
            )
    for synapses in network.readout.synapses:
        if most[synapses.source] * int(synapses.largest_sums.max()) >= FLOAT64_EXACT:
            raise InputError(
                f"{network.readout.name}: the classifier's sums could leave 53 bits in {timesteps} time steps; "
                "simulate fewer or convert with fewer weight_bits"
            )


def reach(node: Neurons | Sum | Readout, most: Mapping[str, int]) -> int:
    """Largest absolute sum of any channel before a spike is taken off it, given the largest absolute counts."""
    start = (
        node.base if isinstance(node, Neurons) else node.bias if isinstance(node, Readout) else np.zeros(1, np.int64)
    )
    total = np.zeros(node.shape[0], object) + abs(start.astype(object))
    for one in node.synapses:
        part = one.largest_sums.astype(object) * abs(one.scale.astype(object)) * most[one.source]
        total[slice(None) if one.targets is None else one.targets] += part
    return int(total.max())
