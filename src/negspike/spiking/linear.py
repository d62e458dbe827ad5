"""What synapses add up, in NumPy's int64: as plain as it can be, and the oracle of everything that is faster."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from negspike.spiking.nodes import Neurons, Readout, Sum, Synapses


def add_current(total: np.ndarray, synapses: Synapses, sums: np.ndarray) -> None:
    """Add the sums of a synapse's windows, (N, O, height, width), times its scale, to (N, channels, height, width)."""
    targets = slice(None) if synapses.targets is None else synapses.targets
    total[:, targets] += sums * synapses.scale[:, None, None]


def sum_int64(synapses: Synapses, x: np.ndarray) -> np.ndarray:
    """The sums of a synapse's windows, tap by tap, as plain as it can be: the oracle of everything that is faster.

    Args:
        synapses: weights (or none) and window.
        x: (N, channels, height, width) integers of the source.

    Returns:
        (N, O, out height, out width) int64. The caller has checked that it fits.
    """
    window, groups = synapses.window, synapses.groups
    x = x.astype(np.int64) if synapses.channels is None else x[:, synapses.channels].astype(np.int64)
    rows, columns = window.out_size(*x.shape[2:])
    padded = np.pad(x, ((0, 0), (0, 0), *window.padding))
    result = np.zeros((len(x), synapses.outputs, rows, columns), np.int64)
    for (a, b), seen in window.taps(padded):
        if synapses.weight is None:
            result += seen
            continue
        tap = synapses.weight[:, :, 0, 0] if synapses.shares_taps else synapses.weight[:, :, a, b]
        matrix = tap.astype(np.int64).reshape(groups, -1, tap.shape[1])
        parts = matrix @ seen.reshape(len(x), groups, tap.shape[1], -1)
        result += parts.reshape(result.shape)
    return result


def settled_int64(node: Neurons | Sum | Readout, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """What a node is at rest: counts clip(floor((z - base) / theta), low, high), sums, or logits.

    Args:
        node: whose synapses add up what its sources have emitted in all.
        values: (N, channels, height, width) integers of each source, by name. The caller has checked that sums fit.

    Returns:
        (N, channels, height, width) int64.
    """
    total = np.zeros((len(values[node.synapses[0].source]), *node.shape), np.int64)
    for synapses in node.synapses:
        add_current(total, synapses, sum_int64(synapses, values[synapses.source]))
    if isinstance(node, Neurons):
        total -= node.base[:, None, None]
        settled: np.ndarray = np.clip(total // node.theta[:, None, None], node.low, node.high)
        return settled
    return total + node.bias[:, None, None] if isinstance(node, Readout) else total
