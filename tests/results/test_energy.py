"""Energy by hand: every constant, every operand, and the sides of the break-evens."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import chain

from negspike import SimulationLog, SpikingNetwork, simulate
from negspike.results import energy as module
from negspike.results.energy import energy, multiply, side


def run() -> tuple[SpikingNetwork, SimulationLog]:
    network = chain("1C3-2", (1, 2, 2), [np.ones(9), np.ones(8)], [1 << 16, 1 << 17], [0, 0], np.ones((3, 2)))
    assert network.weight_bits == 24 and network.largest_weight_bits == 2  # 1 and a sign
    return network, simulate(network, np.array([[2.0, 0], [0, 0], [0, 0], [0, 1]]).reshape(2, 1, 2, 2))


def test_by_hand() -> None:
    network, log = run()
    found = energy(network, log)
    # an image: 12 spikes, 30 operations; 14 multiply-accumulates and 36 on the image; 23 weights, 6 neurons, 3 logits
    assert log.spikes[:, -1].sum() == 2 * 12 and log.sops[:, -1].sum() == 2 * 30
    assert log.timesteps == 5 and found.activation_bits == 3  # counts of 0 to 5
    assert found.spikes_per_synapse == 30 / 14 and found.spikes_per_neuron == 2 and found.spike_rate == 2 / 5
    read = 10 / 64  # a bit, all memories being small
    by_8, by_3 = 3.1 * 2 * 8 / 1024 + 0.1, 3.1 * 2 * 3 / 1024 + 0.1
    assert found.float32_ann.arithmetic == pytest.approx(50 * 4.6)
    assert found.float32_ann.with_memory == pytest.approx(50 * 4.6 + (50 * 64 + 9 * 32) * read)
    assert found.quantised_ann.arithmetic == pytest.approx(36 * by_8 + 14 * by_3)
    memory = 36 * (2 + 8) + 14 * (2 + 3) + 9 * 3
    assert found.quantised_ann.with_memory == pytest.approx(36 * by_8 + 14 * by_3 + memory * read)
    assert found.spiking.arithmetic == pytest.approx(36 * by_8 + 42 * 0.1)
    memory = 36 * (2 + 8) + 30 * 2 + 42 * 64
    assert found.spiking.with_memory == pytest.approx(36 * by_8 + 42 * 0.1 + memory * read)
    assert found.over_quantised.with_memory == pytest.approx(
        found.spiking.with_memory / found.quantised_ann.with_memory
    )
    assert "2.143, above the break-even of 0.15 to 1.38" in str(found)


def test_large_memories_cost_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each layer has memories of its own: two bits a weight, four bytes a potential."""
    network, log = run()
    small = energy(network, log)
    monkeypatch.setattr(module, "SRAM_READS", ((2, 10.0), (15, 100.0)))
    found = energy(network, log)
    layer0 = 36 * 2 * 100 + 36 * 8 * 100 + 6 * 64 * 1300  # 9 weights of 2 bits, 4 pixels of 8, 6 potentials
    layer1 = 12 * 2 * 10 + (12 + 6) * 64 * 100  # 8 weights, 2 potentials
    classifier = 18 * 2 * 10 + 18 * 64 * 100  # 6 weights, 3 logits
    assert found.spiking.with_memory - found.spiking.arithmetic == pytest.approx((layer0 + layer1 + classifier) / 64)
    assert found.quantised_ann.with_memory > small.quantised_ann.with_memory
    assert found.over_quantised.arithmetic == small.over_quantised.arithmetic


def test_multiplying_agrees_with_the_source() -> None:
    assert multiply(32, 32) == 3.1 and multiply(8, 8) == pytest.approx(0.2, rel=0.04)


@pytest.mark.parametrize(("value", "expected"), [(0.14, "below"), (0.15, "within"), (1.38, "within"), (1.39, "above")])
def test_sides(value: float, expected: str) -> None:
    assert side(value, module.SPIKES_PER_SYNAPSE) == expected


def test_bounds_of_spikes_per_neuron() -> None:
    assert pytest.approx((0.32, 0.64)) == module.SPIKES_PER_NEURON
