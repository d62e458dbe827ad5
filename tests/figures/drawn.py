"""What figures of single networks are drawn from, made up."""

from __future__ import annotations

from typing import Any

import numpy as np

from negspike.precision import Precision
from negspike.results.efficiency import Efficiency
from negspike.results.metrics import Curves
from negspike.results.streams import Streamed
from negspike.results.traces import TracedImage
from negspike.spiking.trace import Trace


def efficiency(curves: Curves) -> Efficiency:
    """A microjoule for each million operations, ten with memory, and so is the ANN's."""
    joules = np.array([curves.sops, 10 * curves.sops])
    operations = float(curves.reference_operations)
    return Efficiency(curves.net, curves.seed, curves.precision, curves, joules, (operations, operations / 2))


# Spikes of each neuron, step by step: in two populations of 300 and 3 neurons.
SPIKES = {
    (0, 0): [1, 1, 0, 0, 0],
    (0, 150): [1, 0, 0, 0, 0],
    (0, 299): [0, 0, 0, 0, 0],
    (1, 0): [0, 1, -1, 1, 0],
    (1, 1): [0, 1, 1, 0, 0],
    (1, 2): [0, 0, 0, 1, 0],
}


def traced(k: int = 0, **changes: Any) -> TracedImage:
    """Two populations, of which six neurons are watched; potentials where these spikes come from."""
    spikes = np.array([*SPIKES.values()])
    counts = spikes.cumsum(1)
    theta, base = np.full(len(SPIKES), 10), np.array([0, 5, 7, -3, 4, 0])
    before = counts - spikes
    residual = np.where(spikes > 0, 13, np.where(spikes < 0, -2, 4))
    values: dict[str, Any] = {
        "populations": ("first", "second"),
        "sizes": np.array([300, 3]),
        "positive": np.array([[9, 5, 2, 0, 0], [0, 2, 1, 2, 0]]),
        "negative": np.array([[0, 0, 0, 0, 0], [0, 0, 1, 0, 0]]),
        "population": np.array([population for population, _ in SPIKES]),
        "neuron": np.array([neuron for _, neuron in SPIKES]),
        "potentials": base[:, None] + before * theta[:, None] + residual,
        "counts": counts,
        "theta": theta,
        "base": base,
        "activations": counts[:, -1],
    }
    return TracedImage("small", 0, Precision("k", k), 0, 7, Trace(**values | changes))


def streamed(k: int = 0) -> Streamed:
    """Four frames of two streams."""
    return Streamed(
        "small",
        0,
        Precision("k", k),
        ("first", "still", "moves", "cut"),
        changed=np.array([[9, 8], [0, 0], [3, 2], [7, 7]]),
        sops=np.array([[5000, 4000], [0, 0], [800, 700], [4500, 4000]]),
        fresh=np.array([[5000, 4000], [5000, 4000], [5200, 3800], [4000, 6000]]),
        equal=np.array([[True, True]] * 3 + [[True, False]]),
    )
