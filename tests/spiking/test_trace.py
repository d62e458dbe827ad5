"""The neurons of one image, step by step: those of loops over Python's integers."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from conftest import OneLine
from graphs import MOST_STEPS, Graph, chain, examples, graphs
from hypothesis import given
from oracle import Oracle

from negspike.errors import InputError
from negspike.spiking.trace import trace


@examples(100)
@given(graphs(images=1))
def test_every_number_is_the_oracles(graph: Graph) -> None:
    network, image = graph.network, graph.images[0]
    found = trace(network, image, timesteps=MOST_STEPS, neurons=10**6)
    oracle = Oracle(network)
    expected, rest = oracle.simulate(image, MOST_STEPS), oracle.activations(image)
    names = [one.name for one in network.populations]
    assert found.populations == tuple(names) and found.sizes.sum() == len(found.neuron) == network.neurons
    steps = found.counts.shape[1]
    for t, (emitted, residuals) in enumerate(zip(expected.emitted, expected.residuals, strict=True)):
        spikes = [spike for name in names for spike in emitted[name]]
        if t >= steps:
            assert not any(spikes), "a trace ends when nothing happens any more"
            continue
        assert found.spikes[:, t].tolist() == spikes
        left = found.potentials[:, t] - found.base - found.counts[:, t] * found.theta
        assert left.tolist() == residuals
        assert found.positive[:, t].tolist() == expected.positive[t]
        assert found.negative[:, t].tolist() == expected.negative[t]
    assert found.activations.tolist() == [value for name in names for value in rest[name]]
    if expected.silent >= 0:
        assert (found.counts[:, -1] == found.activations).all()


def test_of_large_populations_some_neurons_are_watched() -> None:
    network = chain("5-7", (1, 4, 4), [np.ones(80), np.ones(35)], [1 << 16, 1 << 16], [0, 0], np.ones((2, 7)))
    found = trace(network, np.ones((1, 4, 4)), timesteps=3, neurons=4)
    assert found.population.tolist() == [0] * 4 + [1] * 4
    assert found.neuron.tolist() == [0, 1, 2, 4, 0, 2, 4, 6]
    assert found.positive[:, 0].tolist() == [5, 7], "spikes are those of all neurons"


def test_refused() -> None:
    network = chain("2", (1, 2, 2), [np.ones(8)], [1 << 16], [0], np.ones((2, 2)))
    with OneLine(InputError, "shape (2, 2)", "(1, 2, 2)"):
        trace(network, np.ones((2, 2)), timesteps=3)
    with OneLine(InputError, "not finite"):
        trace(network, np.full((1, 2, 2), np.nan), timesteps=3)
    with OneLine(InputError, "layer0", "64"):
        trace(network, np.full((1, 2, 2), 2.0**46), timesteps=3)


@pytest.mark.parametrize("module", ["negspike.stages.trace", "negspike.figures"])
def test_neither_tracing_nor_drawing_imports_what_takes_seconds(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'torch', 'numba', 'scipy'}} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
