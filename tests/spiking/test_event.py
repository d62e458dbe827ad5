"""The event-driven engine: the same integers as the reference, whatever is tiled, cut into blocks or widened."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import OneLine
from graphs import Case, Graph, cases, chain, constants, examples, graphs
from hypothesis import assume, given
from hypothesis import strategies as st
from oracle import Oracle
from test_contract import assert_same_recording

from negspike import SpikingNetwork, simulate
from negspike.errors import InputError
from negspike.spiking.event import arrange, engine, state
from negspike.spiking.event.engine import EventEngine
from negspike.spiking.event.rows import PAIR_BITS
from negspike.spiking.nodes import Readout, Window
from negspike.spiking.recording import Recording
from negspike.spiking.reference import ReferenceEngine
from negspike.training.topology import parse_topology


def wide_tiles(network: SpikingNetwork) -> np.ndarray:
    """Which tiles of a chain have 64 bits from the start, layer after layer but the first; no readout."""
    arranged = arrange.arrange(network).network
    first, last = int(arranged.nodes[0, state.TILES]), int(arranged.nodes[-1, state.TILES])
    return np.asarray(arranged.tiles[first : len(arranged.tiles) - last, state.WIDE] != 0)


def random_network(
    topology: str, shape: tuple[int, int, int], k: int = 1, weight_bits: int = 16, padding: str = "same", seed: int = 0
) -> SpikingNetwork:
    """Batch norm calibrated by nothing at all: some layers busy, some quiet."""
    random = np.random.default_rng(seed)
    layers = []
    parsed = parse_topology(topology, shape, padding)
    for geometry in parsed.layers:
        outputs, *rest = geometry.weight_shape
        layers.append(
            {
                "weight": random.normal(0, 1 / np.sqrt(np.prod(rest)), geometry.weight_shape),
                "gamma": random.uniform(0.3, 2, outputs) * random.choice([-1, 1, 1], outputs),
                "beta": random.normal(0, 0.5, outputs),
                "mean": random.normal(0, 0.2, outputs),
                "var": random.uniform(0.05, 0.5, outputs),
                "eps": 1e-5,
            }
        )
    classifier = random.normal(0, 1, (parsed.features, 10))
    return SpikingNetwork.from_batchnorm(topology, shape, k, layers, classifier, padding, weight_bits)


def check(network: SpikingNetwork, encoded: np.ndarray, timesteps: int, threads: int = 1) -> Recording:
    found = EventEngine(network, threads).run(encoded, timesteps)
    assert_same_recording(found, ReferenceEngine(network).run(encoded, timesteps))
    return found


@examples(40)
@given(case=cases(images=3), timesteps=st.integers(state.BLOCK - 1, 3 * state.BLOCK + 1))
def test_blocks_of_steps_join(case: Case, timesteps: int) -> None:
    network = case.network()
    check(network, network.encode(case.images), timesteps)


def test_lists_of_more_spikes_than_32_bits_count() -> None:
    """Of a node that begins behind so many of other nodes."""
    pooled = random_network("8C3-P2-8C3-8", (1, 8, 8))
    encoded = pooled.encode(np.random.default_rng(0).normal(size=(2, 1, 8, 8)))
    found = EventEngine(pooled, 1)
    found.arranged.network.nodes[:, state.ENTRIES] += 1 << 31
    found.arranged.buffers["entries"] += 1 << 31  # pages that nobody touches take no memory
    assert_same_recording(found.run(encoded, 70), ReferenceEngine(pooled).run(encoded, 70))


@examples(60)
@given(graph=graphs(images=2, nodes=4, widths=(1, 3, 31, 33, 70)))
def test_graphs_of_several_tiles(graph: Graph) -> None:
    check(graph.network, graph.network.encode(graph.images), graph.timesteps)


@examples(30)
@given(case=cases(images=9, timesteps=30), task=st.sampled_from([1, 1 << 12]))
def test_nothing_depends_on_tasks(case: Case, task: int) -> None:
    network = case.network()
    encoded = network.encode(case.images)
    with constants(engine, TASK_NEURONS=task):
        check(network, encoded, case.timesteps, threads=3)


def test_a_readout_that_looks_past_the_edge() -> None:
    """As large as what it sees, but shifted by its padding."""
    network = random_network("3C3", (1, 2, 2))
    (synapses,) = network.readout.synapses
    shifted = type(synapses)(synapses.source, Window((2, 2), (5, 5), ((1, 0), (0, 1))), synapses.scale, synapses.weight)
    last = Readout("classifier", network.readout.shape, (shifted,), network.readout.bias)
    made = SpikingNetwork((1, 2, 2), (*network.nodes[:-1], last), 16)
    encoded = made.encode(np.random.default_rng(0).normal(0, 1, (5, 1, 2, 2)))
    found = EventEngine(made, 1).run(encoded, 20)
    assert_same_recording(found, ReferenceEngine(made).run(encoded, 20))


@pytest.mark.parametrize("weight_bits", [8, 16, 24])
@pytest.mark.parametrize(
    ("topology", "shape", "padding"),
    [
        ("40C3-96C3-P2-130C3-70", (3, 11, 13), "same"),  # tiles of both widths, some of them filled up
        ("24C3-64C5-P3-65", (2, 20, 9), "valid"),
        ("16C3-33C3-10", (1, 19, 19), "same"),  # more positions than a list is made for at a time
        ("100-200-90", (1, 8, 8), "same"),
    ],
)
def test_tiles_and_lists(topology: str, shape: tuple[int, int, int], padding: str, weight_bits: int) -> None:
    network = random_network(topology, shape, 1, weight_bits, padding)
    encoded = network.encode(np.random.default_rng(1).normal(0, 1, (3, *shape)))
    recording = check(network, encoded, 80, threads=2)
    with constants(arrange, TILE_WIDTHS=(32,)):
        assert set(arrange.arrange(network).network.nodes[:-1, state.LANES]) == {32}
        check(network, encoded, 80)
    assert (recording.positive.sum((0, 1)) > 0).all(), "a layer never spikes: nothing was tested"
    assert recording.negative.sum() > 0
    positions = [population.shape[1] * population.shape[2] for population in network.populations]
    assert topology != "16C3-33C3-10" or positions[1] > state.LIST_POSITIONS


def test_lists_longer_than_one_part() -> None:
    network = random_network("160C3-64C3-10", (3, 16, 16), 2)
    encoded = network.encode(np.random.default_rng(1).normal(0, 3, (1, 3, 16, 16)))
    recording = check(network, encoded, 40)
    assert recording.sops.sum() / 64 > 2 * state.LIST_ENTRIES


@examples(100)
@given(
    theta=st.integers(1, 1 << 50) | st.integers(1, 1000),
    base=st.integers(-(1 << 52), 1 << 52),
    level=st.integers(-3, 25) | st.integers(0, 1 << 12),
    offset=st.integers(-2, 2),
)
def test_the_first_layer_divides_exactly(theta: int, base: int, level: int, offset: int) -> None:
    """A quotient is taken in floating point and put right: at a tie and beside it, for any threshold."""
    network = chain("1", (1, 1, 1), [[1]], [theta], [base], [[0], [1]])
    encoded = np.array(base + level * theta + offset, np.int64).reshape(1, 1, 1, 1)
    expected = min(max((level * theta + offset) // theta, 0), 20)
    recording = EventEngine(network, 1).run(encoded, 20)
    assert recording.counts["layer0"].item() == recording.positive.sum() == expected


OTHERS = {"AVX2": ("haswell", "+avx2", 256), "any x86": ("x86-64", "", 0)}
ADD_ROWS = """
    import itertools
    import numpy as np
    from numba import njit
    from negspike.spiking.event import arrange, rows
    random, tried = np.random.default_rng(0), itertools.product((32, 64), (False, True))
    for width, wide in tried:
        accumulate = rows.make_accumulate(width, wide)

        @njit
        def add(state, stored, entries, positive, negative, vector):
            return accumulate(state, stored, 0, entries, 0, positive, negative, vector)

        for (size, kind), names in itertools.product(rows.ROW_TYPES.items(), (np.uint16, np.int32)):
            half = 1 << (8 * size - 1)
            weights = random.integers(-half, half, (9, width)).astype(np.int32)
            weights[0], weights[1] = -half, half - 1
            content = arrange.row_bytes(weights, size)
            stored = arrange.aligned(content.size, np.uint8)
            state, vector = (arrange.aligned(width, np.int64 if wide else np.int32) for _ in range(2))
            stored[:], state[:] = content, random.integers(-half, half, width)
            before, entries = state.copy(), random.integers(0, 9, 20).astype(names)
            total = weights[entries[:12]].sum(0) - weights[entries[12:]].sum(0)
            expected = before + total
            vector[:] = expected + random.integers(-1, 2, width)
            if wide:
                vector[:] = random.integers(-(1 << 20), 1 << 20, width)
                expected = before + total * vector
            masks = add(state.ctypes.data, stored.view(kind), entries, 12, 8, vector.ctypes.data)
            assert (state == expected).all(), (width, wide, size, names)
            for mask, lanes in () if wide else zip(masks, (expected >= vector, expected < 0)):
                assert mask == sum(1 << int(lane) for lane in lanes.nonzero()[0]), (width, size, names)
                assert lanes.any() and not lanes.all()
    print(rows.PAIR_BITS)
    """
SIMULATE = """
    import numpy as np
    from negspike.spiking.event import rows
    from test_event import check, random_network
    shape = (3, 5, 7)
    network = random_network("40C3-96C3-P2-70", shape, 1, 24)  # the upper bits of 24 are summed as 16 are
    recording = check(network, network.encode(np.random.default_rng(1).normal(0, 1, (2, *shape))), 70)
    assert (recording.positive.sum((0, 1)) > 0).all() and recording.negative.sum() > 0
    print(rows.PAIR_BITS)
    """


def run_as(name: str, program: str) -> None:
    """Run a program as this processor would, or an older one, and see how it adds rows."""
    environment, bits = {}, PAIR_BITS
    if name in OTHERS:
        environment["NUMBA_CPU_NAME"], environment["NUMBA_CPU_FEATURES"], bits = OTHERS[name]
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).parent), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    )
    command = [sys.executable, "-c", textwrap.dedent(program)]
    result = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [str(bits)]


other_x86 = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="other instructions of x86, and this is another processor"
)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["this", *(pytest.param(name, marks=other_x86) for name in OTHERS)])
def test_rows_of_each_kind_are_added(name: str) -> None:
    """Weights of 8, 16 and 24 bits, lists of 16 and 32, potentials of 32 and 64, as each processor likes it best."""
    run_as(name, ADD_ROWS)


@other_x86
@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_other_processors(name: str) -> None:
    """Rows are added, and stored, as the processor likes it best; here as older ones would."""
    run_as(name, SIMULATE)


# --- widths ---------------------------------------------------------------------------------------------------------


def bombardment(inputs: int, weight: int, theta: int, weight_bits: int = 16, sign: int = 1) -> SpikingNetwork:
    """Inputs that spike in every step, all onto neurons that keep up with them or do not."""
    weights = [np.ones(inputs), np.full((2, inputs), sign * weight), np.ones((3, 2))]
    thetas: list[Any] = [1 << 16, [theta << 16, (theta << 16) - 7], 1 << 16]
    return chain(f"{inputs}-2-3", (1, 1, 1), weights, thetas, [0, 5, 0], [[1, 0, 0], [0, 1, 1]], 0, weight_bits)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("inputs", "theta"), [(2000, 1), (2000, 1 << 15), (2000, 1 << 27), (600, 1)])
def test_potentials_that_leave_32_bits_are_done_again_with_64(inputs: int, theta: int, sign: int) -> None:
    """2000 inputs of weight 32767 bring a potential past 2^31 in 33 steps, 600 in 110, which is in another block."""
    network = bombardment(inputs, 32767, theta, sign=sign)
    assert not wide_tiles(network).any()
    images = np.array([200.0, 0.0, 3.0, 200.0]).reshape(4, 1, 1, 1)
    recording = check(network, network.encode(images), 140)
    assert 0 < recording.potential_bounds[1] <= state.LARGEST_INT32
    # 3 steps of input stay within 32 bits, 140 do not.
    assert recording.positive[2, :, 0].sum() == 3 * inputs


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("inputs", [252, 256, 260, 520, 2000])
def test_sums_of_8_bit_weights_are_cut_before_they_leave_16(inputs: int, sign: int) -> None:
    """127 for each of 258 spikes is just within; both signs of spikes, more of either than are summed at once."""
    network = bombardment(inputs, 127, 1 << 15, weight_bits=8, sign=sign)
    assert arrange.arrange(network).network.rows.dtype == np.int8
    check(network, network.encode(np.array([200.0, 3.0]).reshape(2, 1, 1, 1)), 140)
    # Every other neuron of the second layer rises with its own input and falls as long as its neighbour goes on.
    even = np.arange(inputs) % 2 == 0
    second = np.diag(np.where(even, 3, 1)) - np.eye(inputs, k=1) * even[:, None]
    weights = [np.where(even, 2, 16), second, np.full((2, inputs), sign * 127)]
    shape, thetas = (1, 1, 1), [1 << 16, 1 << 16, 900 << 16]
    network = chain(f"{inputs}-{inputs}-2", shape, weights, thetas, [0, 0, 0], [[1, 0], [0, 1]], 0, 8)
    recording = check(network, network.encode(np.array([3.0, 5.0]).reshape(2, 1, 1, 1)), 140)
    assert recording.negative[:, :, 1].max() == inputs // 2


@pytest.mark.parametrize("magnitude", [(1 << 23) - 1, 255, 1])
@pytest.mark.parametrize("sign", [1, -1])
def test_sums_of_24_bit_weights_are_cut_before_they_overflow(magnitude: int, sign: int) -> None:
    """Whole weights before 32 bits do, their low bytes (255 of 255 and of -1) before 16 bits do."""
    for inputs, negative in ((257, 0), (600, 0), (600, 300)):
        weight = np.full((2, inputs), sign * magnitude)
        weight[1, : inputs // 2] *= -1
        # The second layer's spikes are positive at first; inhibition makes some negative later.
        network = chain(
            f"{inputs}-{inputs}-2",
            (1, 1, 1),
            [
                np.full(inputs, 1 << 15),  # makes all weights 24 bits wide
                np.eye(inputs) - np.eye(inputs, k=1) * (np.arange(inputs) < negative),
                weight,
            ],
            [1 << 31, 1 << 16, magnitude << 20],
            [0, 0, 11],
            [[1, 0], [0, 1]],
        )
        # The image's weights do not decide the width of the others.
        assert wide_tiles(network).all() == (magnitude >= 1 << 15)
        check(network, network.encode(np.array([0.0, 1.0, 40.0]).reshape(3, 1, 1, 1)), 50)


@pytest.mark.parametrize("theta", [1 << 44, 1 << 46, (1 << 50) + 12345])
def test_large_thresholds_take_64_bits_in_their_tile_alone(theta: int) -> None:
    thetas = np.full(70, 3 << 16)
    thetas[66] = theta
    random = np.random.default_rng(0)
    weights = [random.integers(-3, 4, 12), random.integers(-9, 10, (70, 12)), random.integers(-3, 4, (5, 70))]
    network = chain("12-70-5", (1, 1, 1), weights, [1 << 14, thetas, 1 << 15], [0, 17, 4], np.eye(5, dtype=int))
    wide = wide_tiles(network)
    assert wide.sum() == (theta >> 16 >= arrange.LARGEST_NARROW)
    check(network, network.encode(np.array([-2.0, 0.7, 4.0]).reshape(3, 1, 1, 1)), 40)


@examples(60)
@given(case=cases(bits=(2, 16), images=3, timesteps=12, largest_side=5, largest_width=3))
def test_no_potential_went_beyond_the_bound(case: Case) -> None:
    """The bound covers the largest potential of a plain simulation, and 32 bits cover the bound."""
    network = case.network()
    bounds = EventEngine(network, 1).run(network.encode(case.images), case.timesteps).potential_bounds
    if wide_tiles(network).any():
        return
    oracle = Oracle(network)
    for number, population in enumerate(network.populations[1:], 1):
        largest = max(oracle.simulate(image, case.timesteps).largest_residual[population.name] for image in case.images)
        assert largest >> 16 <= bounds[number] <= state.LARGEST_INT32


def test_networks_too_large_for_32_bit_addresses_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    network = random_network("4C3-5", (1, 4, 4))
    monkeypatch.setattr(state, "LARGEST_INT32", 4000)
    images = np.random.default_rng(0).normal(0, 1, (2, 1, 4, 4))
    with OneLine(InputError, "'event'", "layer0 is too large", "dense"):
        simulate(network, images, timesteps=5, engine="event")


def test_tile_width() -> None:
    sizes = (1, 24, 32, 64, 96, 128, 256, 384)
    assert [arrange.tile_width(outputs) for outputs in sizes] == [32, 32, 32, 64, 32, 64, 64, 64]


@pytest.mark.parametrize(
    ("topology", "shape", "short"),
    [
        ("2C3-30", (1, 4, 4), True),
        ("5C1-30", (1, 114, 114), True),  # 64,980 inputs of a neuron
        pytest.param("5C1-30", (1, 115, 115), False, marks=pytest.mark.slow),  # 66,125
        pytest.param("40C1-P2-P2-P2-30", (1, 8, 1030), False, marks=pytest.mark.slow),  # 65,920 channels of a row
    ],
)
def test_lists_are_as_wide_as_they_must_be(topology: str, shape: tuple[int, int, int], short: bool) -> None:
    network = random_network(topology, shape)
    expected = np.uint16 if short else np.int32
    assert engine.list_type(arrange.arrange(network)) is expected
    encoded = network.encode(np.random.default_rng(0).normal(0, 1, (2, *shape)))
    recording = check(network, encoded, 12)
    assert (recording.positive.sum((0, 1)) > 0).all()


@pytest.mark.slow
@examples(15)
@given(case=cases(images=3, timesteps=20, bits=(10, 16)), graph=graphs(nodes=4, weight_bits=(16,)))
def test_long_lists(case: Case, graph: Graph) -> None:
    """With rows of 16 bits: the engine is compiled anew for each kind, whose rows are added to lists of both above."""
    tried = [(case.network(), case.images, case.timesteps), (graph.network, graph.images, graph.timesteps)]
    tried = [one for one in tried if arrange.arrange(one[0]).network.rows.dtype == np.int16]
    assume(tried)
    with constants(engine, LARGEST_SHORT_LIST=0):
        for network, images, timesteps in tried:
            check(network, network.encode(images), timesteps)


def test_many_threads_have_a_few_images_each_before_they_wait() -> None:
    network = random_network("4C3-5", (1, 4, 4))
    with constants(engine, CHUNK_BYTES=1):
        assert [EventEngine(network, threads).chunk_size for threads in (1, 2, 64, 1000)] == [4, 8, 256, 500]


@pytest.mark.parametrize("weight_bits", [8, 16, 24])
def test_rows_of_all_widths_are_aligned(weight_bits: int) -> None:
    network = random_network("33-24-64-10", (1, 3, 3), weight_bits=weight_bits)
    arranged = arrange.arrange(network).network
    assert (arranged.tiles[:, state.FIRST_BYTE] % arrange.ALIGNMENT == 0).all()
    assert set(arranged.nodes[1:, state.LANES]) == {32, 64}
