"""Single neurons and one small graph worked out by hand; why the arithmetic is exact; what simulate refuses.

That all engines give the numbers of plain Python, on random graphs, is in test_contract.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import OneLine
from graphs import ENGINES, Graph, chain, examples, graphs
from hypothesis import given
from hypothesis import strategies as st
from oracle import Oracle
from test_contract import assert_same_log, check_graph, chunks

from negspike import SpikingNetwork, simulate
from negspike.errors import InputError
from negspike.spiking import dense, simulation
from negspike.spiking.bounds import FLOAT64_EXACT
from negspike.spiking.counting import operations_per_spike, relays_per_change
from negspike.spiking.dense import DenseEngine
from negspike.spiking.digits import DigitSum
from negspike.spiking.exact import FLOAT32_EXACT, exact_arithmetic, weight_parts
from negspike.spiking.floats import ExactSum, sum_exactly
from negspike.spiking.joint import JointHistogram, join_histograms
from negspike.spiking.linear import add_current, sum_int64
from negspike.spiking.nodes import INPUT, MaxPool, Neurons, Readout, Sum, Synapses, Window
from negspike.spiking.recording import Recording, SimulationLog
from negspike.spiking.settling import add
from negspike.spiking.simulation import choose_engine, make_engine, run_chunks

CPU = torch.device("cpu")


def one(count: int = 1, value: int = 1) -> np.ndarray:
    return np.full(count, value, np.int64)


# --- a residual network by hand -------------------------------------------------------------------------------------


def residual_network() -> SpikingNetwork:
    """One image row of 4 pixels: neurons a; b = weights on a, plus a itself; max pool of 2; sum of 2; readout."""
    pixel, unit = 1 << 16, 1
    first = Synapses(INPUT, Window(), one())
    a = Neurons("a", (1, 1, 4), (first,), one(1, pixel), one(1, 0), low=0, high=7)
    # kernel (1, 3), the middle tap 2, the outer ones -1
    window = Window((1, 3), padding=((0, 0), (1, 1)))
    weight = np.array([-1, 2, -1], np.int16).reshape(1, 1, 1, 3)
    b_synapses = (Synapses("a", window, one(1, unit), weight), Synapses("a", Window(), one(1, 3 * unit)))
    b = Neurons("b", (1, 1, 4), b_synapses, one(1, 3 * unit), one(1, -1), low=-2, high=5)
    pool = MaxPool("pool", (1, 1, 2), "b", Window((1, 2), (1, 2)))
    total = Synapses("pool", Window((1, 2)), one(2), np.array([1, -1], np.int16).reshape(2, 1, 1, 1))
    readout = Readout("logits", (2, 1, 1), (total,), np.array([0, 3], np.int64), unit=0.5)
    return SpikingNetwork((1, 1, 4), (a, b, pool, readout), 8)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_residual_network_by_hand(engine: str) -> None:
    """Pixels 2, 0, 3, 0: a comes to 2 0 3 0.

    b hears z = 2 a_i - a_left - a_right + 3 a_i, at rest 10 -5 15 -3; floor((z + 1) / 3) is 3 -2 5 -1 (within -2..5).

        step        a          b hears           b spikes    b           pool    passed on
        0        1 0 1 0    5  -2  5  -1        + - + 0    1 -1 1  0     1 1      + +
        1        2 0 2 0   10  -4 10  -2        + 0 + -    2 -1 2 -1     2 2      + +
        2        2 0 3 0   10  -5 15  -3        + - + 0    3 -2 3 -1     3 3      + +
        3           -      10  -5 15  -3        0 0 + 0    3 -2 4 -1     3 4      0 +
        4           -                           0 0 + 0    3 -2 5 -1     3 5      0 +
    """
    network = residual_network()
    log = simulate(network, np.array([2.0, 0, 3, 0]).reshape(1, 1, 1, 4), [0], timesteps=7, engine=engine)
    assert log.counts["a"].ravel().tolist() == [2, 0, 3, 0]
    assert log.counts["b"].ravel().tolist() == [3, -2, 5, -1]
    assert log.positive.tolist() == [[2, 2, 1, 0, 0, 0, 0], [2, 2, 2, 1, 1, 0, 0]]
    assert log.negative.tolist() == [[0, 0, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0]]
    # A spike of a lies in 2 or 3 windows and goes once as it is; what the pool passes on is added to two classes.
    a_spikes = [3 + 4, 3 + 4, 4, 0, 0, 0, 0]
    pool_changes = [4, 4, 4, 2, 2, 0, 0]
    assert log.sops[0].tolist() == np.cumsum(np.add(a_spikes, pool_changes)).tolist()
    assert log.relays.sum() == 0
    # logits: the pool's counts 3 + 5 for class 0, 3 - 8 for class 1, in halves
    assert log.logits.tolist() == [[4.0, -2.5]]
    # after step 0: 2 against 3 - 2, so class 0 from the start
    assert log.correct is not None and log.correct.all()
    assert log.silent.tolist() == [5]
    assert network.latency_bound == 7 + 7
    assert network.macs == 3 * 4 + 2
    found = network.activations(np.array([2.0, 0, 3, 0]).reshape(1, 1, 1, 4))
    assert found["b"].ravel().tolist() == [3, -2, 5, -1] and found["logits"].tolist() == [[8, -5]]


@pytest.mark.parametrize("engine", ENGINES)
def test_relays_of_a_stream_by_hand(engine: str) -> None:
    """Neurons s, a stream x = 2 s, a later one y = x + 3 s, read by two populations with thresholds of their own."""
    s = Neurons("s", (1, 1, 2), (Synapses(INPUT, Window(), one()),), one(1, 1 << 16), one(1, 0), high=3)
    x = Sum("x", (1, 1, 2), (Synapses("s", Window(), one(), np.full((1, 1, 1, 1), 2, np.int16)),))
    weight = np.full((1, 1, 1, 1), 3, np.int16)
    y = Sum("y", (1, 1, 2), (Synapses("x", Window(), one()), Synapses("s", Window(), one(), weight)))
    first = Neurons("first", (1, 1, 2), (Synapses("x", Window(), one()),), one(1, 2), one(1, 0), high=9)
    both = (Synapses("y", Window(), one(1, -1)),)
    second = Neurons("second", (1, 1, 2), both, one(1, 5), one(1, 0), low=-9, high=0)
    last = tuple(
        Synapses(name, Window((1, 2)), one(), np.ones((1, 1, 1, 2), np.int16), targets=one(1, number))
        for number, name in enumerate(("first", "second"))
    )
    network = SpikingNetwork((1, 1, 2), (s, x, y, first, second, Readout("logits", (2, 1, 1), last, one(2, 0))), 8)
    images = np.array([1.0, 3.0]).reshape(1, 1, 1, 2)
    log = simulate(network, images, timesteps=5, engine=engine)
    # s fires in both places at step 0, then in one; each spike is added to x and to y, each change of x relayed to y
    assert log.relays[0].tolist() == [2, 3, 4, 4, 4]
    # first and second spike along: 2 and 2, then 1 and 1, each added to one class
    assert log.sops[0].tolist() == np.cumsum([2 * 2 + 4, 2 + 2, 2 + 2, 0, 0]).tolist()
    assert log.counts["first"].ravel().tolist() == [1, 3] and log.counts["second"].ravel().tolist() == [-1, -3]
    assert log.logits.tolist() == [[4.0, -4.0]]
    assert log.correct is None
    assert check_graph(network, images, 5, engine) == 1


# --- single neurons -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("shift", [-1, 0, 1])
@pytest.mark.parametrize("level", [0, 1, 2, 5])
def test_ties(engine: str, shift: int, level: int) -> None:
    """A potential exactly on base + n theta has reached n; one unit below it has not."""
    theta, base = 3 << 16, -(7 << 16)
    # one unit of potential is 2^-16 of a pixel's step, so weight 1 and a pixel of so many units
    image = np.full((1, 1, 1, 1), (base + level * theta + shift) / 2**16)
    network = chain("1", (1, 1, 1), [[1]], [theta], [base], [[0], [1]])
    log = simulate(network, image, [1], timesteps=12, engine=engine)
    expected = max(0, level - (shift < 0))
    assert log.counts["layer0"].ravel().tolist() == [expected]
    assert log.spikes[0].tolist() == [min(t + 1, expected) for t in range(12)]
    assert network.activations(image)["layer0"].item() == expected


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("shift", [-1, 0, 1])
def test_ties_of_negative_spikes(engine: str, shift: int) -> None:
    """Two spikes of weight 4, then five of weight -1 arrive; a potential of exactly base + 1 theta keeps its spike.

    The first layer's neurons fire 2 and 5 times, one a step, so the second sees 3, 6, 5, 4, 3 in weight units.
    """
    weights = [[[1, 0], [0, 1]], [[4, -1]]]
    first = chain("2-1", (2, 1, 1), weights, [1 << 16, 3 << 16], [0, shift], [[0], [1]])
    images = np.array([2.0, 5.0]).reshape(1, 2, 1, 1)
    log = simulate(first, images, [1], timesteps=8, engine=engine)
    # base + theta is 3 units and `shift` extra bits: at the end the potential is 3 units
    assert log.counts["layer0"].ravel().tolist() == [2, 5]
    assert log.counts["layer1"].item() == (0 if shift > 0 else 1)
    # steps:     z = 3, 6, 5, 4, 3, 3, ...
    positive = {-1: [1, 1, 0, 0, 0, 0, 0, 0], 0: [1, 1, 0, 0, 0, 0, 0, 0], 1: [0, 1, 0, 0, 0, 0, 0, 0]}
    negative = {-1: [0, 0, 1, 0, 0, 0, 0, 0], 0: [0, 0, 1, 0, 0, 0, 0, 0], 1: [0, 0, 0, 0, 1, 0, 0, 0]}
    assert log.positive[1].tolist() == positive[shift]
    assert log.negative[1].tolist() == negative[shift]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("depth", [2, 3])
def test_fires_without_any_input(engine: str, depth: int) -> None:
    """base + theta of at most 0: a neuron of a later layer fires although nothing ever reaches it; in every chunk."""
    bases = [0] * (depth - 1) + [-3 << 16]
    network = chain("-".join(["1"] * depth), (1, 1, 1), [[1]] * depth, [1 << 16] * depth, bases, [[0], [1]])
    images = np.array([0.0, 1.0, 0.0]).reshape(3, 1, 1, 1)
    with chunks(1):
        log = simulate(network, images, [1, 1, 0], timesteps=6, engine=engine)
    assert log.counts[f"layer{depth - 1}"].ravel().tolist() == [3, 4, 3]
    assert log.spikes[0].tolist() == [1, 2, 3, 3, 3, 3]
    assert log.sops[0].tolist() == [2, 4, 6, 6, 6, 6]
    assert log.predictions.tolist() == [1, 1, 1]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("rows", "bias", "expected"),
    [
        ([[1], [1], [1]], [0, 0, 0], 0),
        ([[0], [1], [1]], [0, 0, 0], 1),
        ([[-2], [-1], [-1]], [0, 0, 0], 1),
        ([[0], [0], [0]], [0, 0, 0], 0),
        ([[0], [0], [0]], [-1, 2, 2], 1),
        ([[0], [3], [0]], [9, 0, 9], 0),
    ],
)
def test_equal_logits_give_the_lowest_class(engine: str, rows: list[list[int]], bias: list[int], expected: int) -> None:
    made = chain("1", (1, 1, 1), [[1]], [1 << 16], [0], rows)
    last = made.readout
    network = SpikingNetwork(
        (1, 1, 1), (*made.nodes[:-1], Readout(last.name, last.shape, last.synapses, np.array(bias))), 24
    )
    log = simulate(network, np.full((40, 1, 1, 1), 3.0), np.full(40, expected), timesteps=5, engine=engine)
    assert log.correct is not None and log.correct.all()
    assert (log.predictions == expected).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_many_classes_with_equal_logits(engine: str) -> None:
    """Vector code compares several at once; the lowest still wins."""
    rows = np.zeros((100, 1), int)
    rows[[37, 38, 64, 99]] = 5
    network = chain("1", (1, 1, 1), [[1]], [1 << 16], [0], rows)
    log = simulate(network, np.full((3, 1, 1, 1), 3.0), timesteps=5, engine=engine)
    assert (log.predictions == 37).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_one_time_step(engine: str) -> None:
    network = chain("1", (1, 1, 1), [[1]], [1 << 16], [0], [[0], [1]])
    log = simulate(network, np.array([0.0, 5.0]).reshape(2, 1, 1, 1), [0, 1], timesteps=1, engine=engine)
    assert log.silent.tolist() == [0, -1]
    assert log.correct is not None and log.correct.tolist() == [[True], [True]]


# --- exact sums -----------------------------------------------------------------------------------------------------


def reconstruct(parts: list[tuple[np.ndarray, int]]) -> np.ndarray:
    return sum((part.astype(np.int64) << shift for part, shift in parts), np.zeros(parts[0][0].shape, np.int64))


@examples(100)
@given(
    bits=st.integers(2, 24),
    inputs=st.integers(1, 3000),
    seed=st.integers(0, 2**32 - 1),
    extreme=st.booleans(),
    largest=st.sampled_from([1, 1, 2, 14, 64, 1000]),
)
def test_weight_parts(bits: int, inputs: int, seed: int, extreme: bool, largest: int) -> None:
    limit = 2 ** (bits - 1) - 1
    random = np.random.default_rng(seed)
    weight = random.integers(-limit, limit + 1, (3, inputs, 1, 1))
    if extreme:
        weight[0], weight[1] = limit, -limit
    parts = weight_parts(weight.astype(np.int32), largest)
    np.testing.assert_array_equal(reconstruct(parts), weight)
    assert all(part.dtype == np.float32 for part, _ in parts)
    assert all(largest * np.abs(part.astype(np.int64)).sum((1, 2, 3)).max() <= FLOAT32_EXACT for part, _ in parts)
    assert (len(parts) == 1) == (largest * int(np.abs(weight).sum((1, 2, 3)).max()) <= FLOAT32_EXACT)
    assert largest > 1 or len(parts) <= 3


def test_inputs_too_large_for_any_weight_parts() -> None:
    weight = np.full((1, 9, 1, 1), 5)
    assert reconstruct(weight_parts(weight, FLOAT32_EXACT // 9)).tolist() == weight.tolist()
    with pytest.raises(OverflowError, match="9 weights of one bit"):
        weight_parts(weight, FLOAT32_EXACT // 9 + 1)


@pytest.mark.parametrize("inputs", [65_793, 65_794, 131_072, 300_000])
def test_weight_parts_of_very_many_inputs(inputs: int) -> None:
    """At 65,794 inputs even parts of 8 bits could leave 24; they become narrower."""
    random = np.random.default_rng(inputs)
    weight = random.integers(-(2**15) + 1, 2**15, (2, inputs, 1, 1))
    weight[0] = -1
    weight[0, 0] = -(2**15) + 1
    parts = weight_parts(weight.astype(np.int16))
    np.testing.assert_array_equal(reconstruct(parts), weight)
    assert all(np.abs(part.astype(np.int64)).sum((1, 2, 3)).max() <= FLOAT32_EXACT for part, _ in parts)


def test_weight_parts_at_the_bound() -> None:
    exact = np.full((1, 2, 1, 1), 2**23)
    assert len(weight_parts(exact)) == 1
    exact[0, 0] += 1
    parts = weight_parts(exact)
    assert len(parts) == 2
    np.testing.assert_array_equal(reconstruct(parts), exact)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("taps", [(3, 5), (1, 1)])
@pytest.mark.parametrize("signs", ["extreme", "random"])
def test_full_weights_of_24_bits(taps: tuple[int, int], groups: int, signs: str) -> None:
    """Sums of absolute weights far above 2^24; every sum of spikes is that of int64, shared taps included."""
    limit, random = 2**23 - 1, np.random.default_rng(3)
    weight = random.integers(-limit, limit + 1, (4, 90 // groups, *taps)).astype(np.int32)
    weight = weight if signs == "random" else np.where(weight < 0, -limit, limit).astype(np.int32)
    synapses = Synapses("x", Window((3, 5), padding=((1, 1), (2, 2))), one(4), weight, groups)
    connection = dense._Connection(synapses, (90, 4, 5), CPU, floats=True)
    assert len(connection.parts) > 1 and synapses.largest_sums.max() > FLOAT32_EXACT
    with exact_arithmetic(None):
        spikes = torch.from_numpy(random.integers(-1, 2, (6, 90, 4, 5)))
        spikes[0], spikes[1] = 1, -1
        found = connection.sums(spikes.float()).numpy()
    np.testing.assert_array_equal(found, sum_int64(synapses, spikes.numpy()))


def float32_synapses(bits: int = 16) -> Synapses:
    weight = np.random.default_rng(0).integers(-(2 ** (bits - 1)) + 1, 2 ** (bits - 1), (8, 512, 3, 3))
    return Synapses("x", Window((3, 3), padding=((1, 1), (1, 1))), one(8), weight.astype(np.int32))


@examples(60)
@given(graph=graphs(images=1), seed=st.integers(0, 2**32 - 1))
def test_sums_of_counts(graph: Graph, seed: int) -> None:
    """The same as in int64, whatever inputs and numbers of images a synapse meets one after the other."""
    random = np.random.default_rng(seed)
    network = graph.network
    for node in network.nodes:
        for synapses in () if isinstance(node, MaxPool) else node.synapses:
            exact = ExactSum(synapses)
            for images, largest in ((2, 9), (1, 100), (2, 0), (2, 3), (1, 1 << 20), (2, 1 << 30), (1, 5)):
                x = random.integers(-largest, largest + 1, (images, *network.shapes[synapses.source]))
                expected = sum_int64(synapses, x)
                np.testing.assert_array_equal(exact(x), expected)
                np.testing.assert_array_equal(sum_exactly(synapses, x), expected)


@pytest.mark.parametrize(("largest", "parts"), [(1, 2), (14, 2), (60, 3), (1 << 20, 0)])
def test_sums_of_counts_are_done_in_float32(largest: int, parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    synapses = float32_synapses()
    x = np.random.default_rng(0).integers(0, largest + 1, (3, 512, 4, 4))
    exact, expected = ExactSum(synapses), sum_int64(synapses, x)
    np.testing.assert_array_equal(exact(x), expected)
    assert len(exact._split.parts) == parts
    if parts:
        # The first time was compared with float64, after that float32 is alone.
        monkeypatch.setattr("negspike.spiking.floats.sum_exactly", None)
        np.testing.assert_array_equal(exact(x), expected)


def test_a_library_that_rounds_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    synapses = float32_synapses()
    plain = torch.nn.functional.conv2d

    def rounding(x: torch.Tensor, *options: Any) -> torch.Tensor:
        result = plain(x, *options)
        return result.bfloat16().to(result.dtype) if len(x) == 2 and result.dtype == torch.float32 else result

    monkeypatch.setattr("negspike.spiking.floats.F.conv2d", rounding)
    exact = ExactSum(synapses)
    for images in (1, 2, 1, 2):
        x = np.random.default_rng(images).integers(0, 9, (images, 512, 4, 4))
        np.testing.assert_array_equal(exact(x), sum_int64(synapses, x))
    assert not exact._split.parts


def test_weights_that_are_split_again_are_compared_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Larger inputs need other parts, for which the library may choose another algorithm."""
    synapses = float32_synapses()
    exact, plain = ExactSum(synapses), torch.nn.functional.conv2d
    random = np.random.default_rng(0)
    small, large = random.integers(0, 2, (3, 512, 4, 4)), random.integers(0, 60, (3, 512, 4, 4))
    np.testing.assert_array_equal(exact(small), sum_int64(synapses, small))
    monkeypatch.setattr(
        "negspike.spiking.floats.F.conv2d",
        lambda x, *options: (
            plain(x, *options).bfloat16().to(x.dtype) if x.dtype == torch.float32 else plain(x, *options)
        ),
    )
    np.testing.assert_array_equal(exact(large), sum_int64(synapses, large))


def test_threads_share_an_exact_sum() -> None:
    """Inputs of growing size split the weights anew under the feet of the other threads."""
    synapses = float32_synapses()
    random = np.random.default_rng(0)
    inputs = [random.integers(0, largest, (1, 512, 4, 4)) for largest in (2, 5, 9, 17, 33, 60, 1000) for _ in range(4)]
    expected = [sum_int64(synapses, x) for x in inputs]
    exact = ExactSum(synapses)
    with ThreadPoolExecutor(8) as pool:
        for found, right in zip(pool.map(exact, inputs), expected, strict=True):
            np.testing.assert_array_equal(found, right)


def test_simulations_in_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Same integers, and PyTorch's switches, which belong to the process, are as before whoever leaves last."""
    network = residual_network()
    images = np.random.default_rng(0).integers(-3, 4, (40, 1, 1, 4)).astype(float)
    before = torch.backends.cudnn.enabled, torch.get_num_threads(), torch.backends.mkldnn.conv.fp32_precision  # type: ignore[attr-defined]
    expected = simulate(network, images, timesteps=20, engine="reference")

    def run(number: int) -> SimulationLog:
        return simulate(network, images, timesteps=20, engine=("dense", "event")[number % 2], threads=1 + number % 3)

    with ThreadPoolExecutor(6) as pool:
        for log in pool.map(run, range(24)):
            assert_same_log(log, expected)
    after = torch.backends.cudnn.enabled, torch.get_num_threads(), torch.backends.mkldnn.conv.fp32_precision  # type: ignore[attr-defined]
    assert after == before


def test_one_thread_leaves_while_another_computes() -> None:
    inside, outside = exact_arithmetic(None), exact_arithmetic(None)
    before = torch.backends.cudnn.enabled
    inside.__enter__()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(outside.__enter__).result()
        inside.__exit__(None, None, None)
        assert not torch.backends.cudnn.enabled
        pool.submit(outside.__exit__, None, None, None).result()
    assert torch.backends.cudnn.enabled == before


def total_of_digits(sums: DigitSum, x: np.ndarray, largest: int, channels: int) -> np.ndarray | None:
    """(N, channels, height, width) int64 of what :meth:`DigitSum.products` says."""
    products = sums.products(torch.from_numpy(np.ascontiguousarray(x.transpose(0, 2, 3, 1))), largest)
    if not products:
        return None
    total = np.zeros((len(products[0][0]), channels), np.int64)
    for part, factor in products:
        add(total, part, sums.factors * factor, sums.targets)
    height, width = sums.synapses.window.out_size(*x.shape[2:])
    return total.reshape(len(x), height, width, channels).transpose(0, 3, 1, 2)


@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() != "AVX512", reason="int8 products need AVX-512")
@pytest.mark.parametrize("bits", [2, 8, 9, 16, 17, 24])
@pytest.mark.parametrize("largest", [1, 127, 128, 255, 40_000, 1 << 21])
def test_sums_in_digits(bits: int, largest: int) -> None:
    """Whatever the digits: extreme weights and counts of both signs, channels that are picked and scattered."""
    random = np.random.default_rng(bits)
    most = 2 ** (bits - 1)
    weight = random.integers(-most, most, (5, 6, 3, 2)).astype(np.int32)
    weight[0], weight[1], weight[2] = most - 1, -most, np.where(random.random(weight[2].shape) < 0.5, most - 1, -most)
    window = Window((3, 2), (2, 1), ((1, 0), (2, 1)), (1, 2))
    scale, channels, targets = random.integers(1, 9, 5), np.array([3, 0, 6, 1, 1, 5]), np.array([4, 2, 6, 0, 1])
    plain = Synapses("x", window, scale, weight)
    for synapses, inputs, outputs in ((plain, 6, 5), (replace(plain, channels=channels, targets=targets), 7, 7)):
        x = random.integers(-largest, largest + 1, (3, inputs, 7, 6))
        x[0], x[1] = largest, -largest
        found = total_of_digits(DigitSum(synapses, outputs), x, largest, outputs)
        expected = np.zeros((3, outputs, *window.out_size(7, 6)), np.int64)
        add_current(expected, synapses, sum_int64(synapses, x))
        assert found is not None
        np.testing.assert_array_equal(found, expected)


def saturating(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """As the instruction does it that older processors multiply bytes with: pairs are summed in 16 bits."""
    pairs = (x.int()[:, ::2] @ y.int()[::2]).clamp(-(1 << 15), (1 << 15) - 1)
    return pairs + x.int()[:, 1::2] @ y.int()[1::2]


def test_products_that_saturate_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    weights = [random.integers(-30000, 30000, shape) for shape in ((4, 1, 3, 3), (6, 4, 5, 5))]
    options = "4C3-6", (1, 5, 5), weights, [1 << 23, 1 << 24], [-1 << 22] * 2, random.integers(-9, 9, (3, 6))
    images = random.normal(0, 1, (7, 1, 5, 5))
    expected = chain(*options).activations(images)
    monkeypatch.setattr(torch, "_int_mm", saturating)
    network = chain(*options)
    for name, values in network.activations(images).items():
        np.testing.assert_array_equal(values, expected[name])
    assert not all(digits.usable for digits, _ in network._integer_ann._sums.values())


@pytest.mark.parametrize("threads", [1, 2])
def test_differing_neurons_are_counted(threads: int) -> None:
    """Image by image, whatever batches they are compared in, and the predictions are those of the activations."""
    network = residual_network()
    images = np.random.default_rng(0).normal(0, 2, (9, 1, 1, 4))
    network._integer_ann.images_at_once = 4
    found = network.activations(images)
    counts = {name: found[name].astype(np.int32) for name in ("a", "b")}
    counts["a"][3, 0, 0, 1] += 1
    counts["b"][3], counts["b"][8, 0, 0, 0] = counts["b"][3] - 1, 77
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    predictions, differing, joint = network.compare(images, counts)
    assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    assert differing.tolist() == [0, 0, 0, 5, 0, 0, 0, 0, 1]
    pairs = Counter(
        zip(*(np.concatenate([one[n].ravel() for n in "ab"]).tolist() for one in (found, counts)), strict=True)
    )
    assert joint.T.tolist() == [[*pair, neurons] for pair, neurons in sorted(pairs.items())]
    np.testing.assert_array_equal(predictions, found["logits"].argmax(1))


@pytest.mark.parametrize("largest", [1, 127, 3000, 1 << 40])
def test_joint_histograms(largest: int) -> None:
    """Of whatever integers, in whatever parts; an odd number of neurons."""
    random = np.random.default_rng(largest)
    activations = random.integers(-largest, largest + 1, (3, 5, 3, 1)).astype(np.min_scalar_type(-largest))
    counts = np.where(random.random(activations.shape) < 0.2, activations // 2, activations).astype(np.int64)
    pairs = Counter(zip(activations.ravel().tolist(), counts.ravel().tolist(), strict=True))
    joint = JointHistogram()
    differing = [*joint.add(activations[:2], counts[:2]), *joint.add(activations[2:], counts[2:])]
    assert differing == (activations != counts).sum((1, 2, 3)).tolist()
    assert joint.total().T.tolist() == [[*pair, neurons] for pair, neurons in sorted(pairs.items())]
    assert join_histograms([]).shape == (3, 0)
    np.testing.assert_array_equal(join_histograms([joint.total()] * 2), joint.total() * [[1], [1], [2]])


def test_activations_of_an_identity_with_padding() -> None:
    """One tap and no weights, but more outputs than inputs: the padding's are the base alone."""
    first = Synapses(INPUT, Window(stride=(1, 2), padding=((0, 0), (1, 2))), one())
    node = Neurons("a", (1, 1, 3), (first,), one(1, 1 << 16), one(1, -1 << 16))
    last = Readout("logits", (1, 1, 1), (Synapses("a", Window((1, 3)), one()),), one(1, 0))
    network = SpikingNetwork((1, 1, 3), (node, last), 8)
    found = network.activations(np.array([4.0, 5.0, 6.0]).reshape(1, 1, 1, 3))
    assert found["a"].ravel().tolist() == [1, 6, 1] and found["logits"].tolist() == [[8]]


@pytest.mark.parametrize("theta", [1, 3, (1 << 50) + 1])
def test_activations_of_large_quotients(theta: int) -> None:
    """Currents of 2^60 and thresholds from 1 on: floats would round, the closed form does not."""
    weight, scale = np.full((2, 1, 1, 1), 1 << 22, np.int32), np.array([1 << 20, (1 << 20) - 1])
    synapses = (Synapses(INPUT, Window(), scale, weight),)
    for low, high in ((None, None), (-5, 9), (0, (1 << 31) - 1)):
        one_node = Neurons("a", (2, 1, 1), synapses, np.full(2, theta), np.array([7, -8]), low, high)
        last = Readout("logits", (2, 1, 1), (Synapses("a", Window(), one(2)),), np.zeros(2, np.int64))
        network = SpikingNetwork((1, 1, 1), (one_node, last), 24)
        images = np.array([3.0, -3.25, 1 / (1 << 16)]).reshape(3, 1, 1, 1)
        found = network.activations(images)["a"][:, :, 0, 0].tolist()
        expected = []
        for pixel in (3 << 16, -13 << 14, 1):
            counts = [((pixel * int(s) << 22) - base) // theta for s, base in zip(scale, (7, -8), strict=True)]
            expected.append([n if low is None or high is None else min(max(n, low), high) for n in counts])
        assert found == expected


def test_sums_just_above_float64() -> None:
    """2^53 + 1 is the first integer that float64 cannot hold."""
    synapses = Synapses("x", Window(), one(), np.array([4, 1], np.int16).reshape(1, 2, 1, 1))
    x = np.array([FLOAT64_EXACT // 4, 1]).reshape(1, 2, 1, 1)
    assert sum_exactly(synapses, x).item() == FLOAT64_EXACT + 1


def test_operations_per_spike() -> None:
    """A 3x3 window of a 4x3 image, 5 outputs: 4 windows hold a corner, 6 an edge, 9 the inside."""
    shapes = [(2, 1, 1, 1), (5, 2, 3, 3), (5, 5, 2, 2), (7, 5, 2, 2)]
    weights = [np.ones(shape) for shape in shapes]
    network = chain("2C1-5C3-P2-7", (1, 4, 3), weights, [1] * 4, [0] * 4, np.ones((10, 7)))
    costs = [cost for listeners in operations_per_spike(network).values() for cost in listeners.values()]
    assert [list(listeners) for listeners in operations_per_spike(network).values()] == [[1], [2], [3], [4]]
    np.testing.assert_array_equal(costs[0], 5 * np.outer([2, 3, 3, 2], [2, 3, 2])[None])
    np.testing.assert_array_equal(costs[1], np.full((1, 4, 3), 5))
    np.testing.assert_array_equal(costs[2], np.full((1, 2, 2), 7))
    np.testing.assert_array_equal(costs[3], [[[10]]])
    assert relays_per_change(network) == {}


# --- the self check, and the caller's settings ----------------------------------------------------------------------


def convolutional() -> SpikingNetwork:
    random = np.random.default_rng(5)
    weights = [random.integers(-3000, 3000, shape) for shape in ((4, 1, 3, 3), (6, 4, 3, 3), (5, 6, 5, 5))]
    return chain("4C3-6C3-5", (1, 5, 5), weights, [1 << 29] * 3, [-1 << 27] * 3, np.eye(2, 5))


def off_by_one(original: Any) -> Any:
    def wrong(*args: Any, **kwargs: Any) -> torch.Tensor:
        result: torch.Tensor = original(*args, **kwargs)
        if result.dtype == torch.float32:
            result = result.clone()
            result.view(-1)[-1] += 1
        return result

    return wrong


def bfloat16_operands(original: Any) -> Any:
    def wrong(x: torch.Tensor, weight: torch.Tensor, *rest: Any, **kwargs: Any) -> torch.Tensor:
        if weight.dtype == torch.float32:
            weight = weight.bfloat16().float()
        result: torch.Tensor = original(x, weight, *rest, **kwargs)
        return result

    return wrong


def bfloat16_sums(original: Any) -> Any:
    def wrong(*args: Any, **kwargs: Any) -> torch.Tensor:
        result: torch.Tensor = original(*args, **kwargs)
        return result.bfloat16().float() if result.dtype == torch.float32 else result

    return wrong


def wrong_in_large_chunks(original: Any) -> Any:
    def wrong(x: torch.Tensor, *rest: Any, **kwargs: Any) -> torch.Tensor:
        result: torch.Tensor = original(x, *rest, **kwargs)
        return result * 2 if len(x) > 16 and result.dtype == torch.float32 else result

    return wrong


@pytest.mark.parametrize("function", ["conv2d", "linear"])
@pytest.mark.parametrize("defect", [off_by_one, bfloat16_operands, bfloat16_sums, wrong_in_large_chunks])
def test_inexact_libraries_are_found(function: str, defect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    network = convolutional()
    monkeypatch.setattr(F, function, defect(getattr(F, function)))
    with OneLine(ArithmeticError, "layer1" if function == "linear" else "layer0", "not exact sums", "reference"):
        DenseEngine(network, CPU)


def test_saturated_sums_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the largest sum that a neuron can reach shows it: random spikes stay far below."""
    network = convolutional()
    largest = int(network.populations[1].synapses[0].largest_sums.max())
    original = F.conv2d

    def saturated(*args: Any, **kwargs: Any) -> torch.Tensor:
        result: torch.Tensor = original(*args, **kwargs)
        return result.clamp(max=largest - 1) if result.dtype == torch.float32 else result

    monkeypatch.setattr(F, "conv2d", saturated)
    with pytest.raises(ArithmeticError, match="layer0"):
        DenseEngine(network, CPU)


@examples(60)
@given(graph=graphs(images=1))
def test_trial_spikes_reach_the_largest_sum(graph: Graph) -> None:
    """...up to what padding cuts off and channels heard twice, where weights differ in sign."""
    for node, connections in DenseEngine(graph.network, CPU).connections.items():
        for connection in connections:
            synapses = connection.synapses
            spikes = connection._trial()
            assert spikes.shape == (3, *graph.network.shapes[synapses.source])
            assert set(np.unique(spikes)) <= {-1, 0, 1}
            largest = int(synapses.largest_sums.max())
            padded = any(map(sum, synapses.window.padding))
            if synapses.weight is not None and not padded and synapses.channels is None and not synapses.shares_taps:
                assert sum_int64(synapses, spikes)[2].max() == largest, node


def precision() -> tuple[Any, ...]:
    backends: Any = torch.backends
    settings: list[Any] = [backends.cudnn.enabled, torch.get_num_threads(), torch.is_inference_mode_enabled()]
    if hasattr(backends, "fp32_precision"):
        operations = (backends.cuda.matmul, backends.mkldnn.matmul, backends.mkldnn.conv)
        settings += [operation.fp32_precision for operation in operations]
        settings += [backends.fp32_precision, backends.cudnn.fp32_precision]
    return tuple(settings)


@pytest.fixture
def restored_precision() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.usefixtures("restored_precision")
@pytest.mark.parametrize("wish", ["highest", "high", "medium"])
def test_reduced_precision_is_switched_off(wish: str) -> None:
    """Whatever the caller chose; and the caller has it again afterwards, also after an error."""
    torch.set_float32_matmul_precision(wish)
    before = precision()
    with exact_arithmetic(2):
        assert torch.get_num_threads() == 2
        assert torch.is_inference_mode_enabled()
        assert not torch.backends.cudnn.enabled
        backends: Any = torch.backends
        if hasattr(backends, "fp32_precision"):
            assert backends.cuda.matmul.fp32_precision == "ieee"
            assert backends.mkldnn.matmul.fp32_precision == backends.mkldnn.conv.fp32_precision == "ieee"
        else:
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cuda.matmul.allow_tf32
    assert precision() == before
    assert torch.get_float32_matmul_precision() == wish
    with pytest.raises(KeyError), exact_arithmetic(2):
        raise KeyError
    assert precision() == before
    assert_dense_equals_reference()


NEW_INTERFACE = """
import numpy as np, torch
from negspike.spiking.exact import exact_arithmetic
backends = torch.backends
backends.fp32_precision = "tf32"
backends.cuda.matmul.fp32_precision = "tf32"
backends.mkldnn.matmul.fp32_precision = "bf16"
def settings():
    operations = backends.cuda.matmul, backends.mkldnn.matmul, backends.mkldnn.conv
    return [operation.fp32_precision for operation in operations]
before = settings()
with exact_arithmetic(1):
    assert settings() == ["ieee"] * 3, settings()
assert settings() == before == ["tf32", "bf16", "tf32"], settings()
backends.fp32_precision = "ieee"
assert backends.mkldnn.conv.fp32_precision == "ieee"
"""


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="PyTorch before 2.9 has one interface only")
def test_settings_made_through_the_new_interface() -> None:
    """PyTorch then refuses to answer through the old one; and what inherited its setting goes on inheriting it."""
    import subprocess
    import sys

    subprocess.run([sys.executable, "-c", NEW_INTERFACE], check=True)


def assert_dense_equals_reference() -> None:
    images = np.random.default_rng(0).normal(0, 1, (4, 1, 5, 5))
    logs = [simulate(convolutional(), images, timesteps=20, engine=engine) for engine in ("dense", "reference")]
    assert_same_log(*logs)


def test_autocast_is_switched_off() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_dense_equals_reference()
        assert torch.is_autocast_enabled("cpu")


def test_other_defaults_of_the_caller() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        assert_dense_equals_reference()
    finally:
        torch.set_default_dtype(torch.float32)


# --- defects of an engine are found ---------------------------------------------------------------------------------


@pytest.mark.parametrize("defect", ["dropped spike", "no negative spikes", "input lost"])
def test_a_silent_network_with_a_defect_is_not_the_integer_ann(defect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the lossless check compares does differ where an engine is wrong."""
    random = np.random.default_rng(0)
    weights = [random.integers(-300, 300, shape) for shape in ((4, 1, 3, 3), (6, 4, 5, 5))]
    network = chain("4C3-6", (1, 5, 5), weights, [1 << 23, 1 << 24], [-1 << 22] * 2, random.integers(-9, 9, (3, 6)))
    images = random.normal(0, 1, (7, 1, 5, 5))
    exact = network.activations(images)

    def differing() -> int:
        log = simulate(network, images, timesteps=150, engine="dense")
        assert (log.silent >= 0).all()
        return sum(int((log.counts[name] != exact[name]).sum()) for name in log.counts)

    assert differing() == 0
    original: Any = dense.NodeState.fire

    def fire(self: Any, residual: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
        change: torch.Tensor = original(self, residual, count)
        wrong = torch.zeros_like(change)
        if defect == "no negative spikes":
            wrong = change.clamp(max=0)
        elif not getattr(self, "done", False) and (change[:, 0] > 0).any():
            self.done = True
            wrong[(change > 0).nonzero()[0].unbind()] = 1
        residual += wrong * self.theta  # as if it had not fired...
        count -= wrong
        if defect != "no negative spikes":
            residual -= wrong * self.theta  # ...but its potential was lowered, or what it heard was lost
        return change - wrong if defect != "input lost" else change

    monkeypatch.setattr(dense.NodeState, "fire", fire)
    assert differing() > 0


# --- what simulate takes and refuses --------------------------------------------------------------------------------


def small() -> tuple[SpikingNetwork, np.ndarray, np.ndarray]:
    network = chain("1", (1, 2, 2), [[1] * 4], [1 << 16], [0], [[0], [1]])
    return network, np.zeros((2, 1, 2, 2)), np.zeros(2, int)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"timesteps": 0}, ("timesteps", "0")),
        ({"timesteps": 2.7}, ("timesteps is 2.7", "whole number")),
        ({"timesteps": 2.0}, ("timesteps is 2.0", "whole number")),
        ({"timesteps": float("nan")}, ("timesteps is nan", "whole number")),
        ({"timesteps": True}, ("timesteps is True", "whole number")),
        ({"timesteps": None}, ("timesteps is None", "whole number")),
        ({"timesteps": "silent"}, ("timesteps is 'silent'", "'until_silent'")),
        ({"timesteps": 2**31}, ("timesteps", "32 bits")),
        ({"batch_size": 0}, ("batch_size", "0")),
        ({"batch_size": 2.5}, ("batch_size is 2.5", "whole number")),
        ({"engine": "fast"}, ("'fast'", "reference", "dense", "event")),
        ({"threads": 0}, ("threads", "0")),
        ({"threads": "2"}, ("threads is '2'", "whole number")),
        ({"device": "tpu"}, ("'tpu'",)),
        ({"engine": "event", "device": "cuda"}, ()),
        ({"labels": np.zeros(3)}, ("2 images", "(3,)")),
        ({"labels": np.zeros((2, 1), int)}, ("2 images", "(2, 1)")),
        ({"labels": [0, 2]}, ("labels are from 0 to 2", "0 to 1")),
        ({"labels": [-1, 0]}, ("labels are from -1 to 0", "0 to 1")),
        ({"labels": [0.5, 0]}, ("labels", "float64", "0 to 1")),
        ({"labels": [float("nan"), 0]}, ("labels", "whole numbers")),
        ({"labels": ["cat", "dog"]}, ("labels", "whole numbers")),
        ({"labels": [[0], [1, 2]]}, ("labels", "not an array")),
        ({"images": np.zeros((0, 1, 2, 2)), "labels": []}, ("no image",)),
        ({"images": np.zeros((1, 2, 2)), "labels": [0]}, ("(1, 2, 2)", "(N, 1, 2, 2)")),
        ({"images": 3.0, "labels": [0]}, ("images", "(N, 1, 2, 2)")),
        ({"images": [[1.0], [2.0, 3.0]]}, ("images", "not an array")),
        ({"images": np.zeros((2, 1, 2, 2)) * 1j}, ("images", "complex", "real")),
        ({"images": np.full((2, 1, 2, 2), "a")}, ("images", "<U1", "real")),
        ({"images": torch.zeros((2, 1, 2, 2), dtype=torch.complex64)}, ("images", "complex", "real")),
        ({"images": np.full((2, 1, 2, 2), np.nan)}, ("images", "not finite")),
    ],
)
def test_simulate_refuses(changes: dict[str, Any], words: tuple[str, ...]) -> None:
    network, images, labels = small()
    arguments: dict[str, Any] = {"images": images, "labels": labels, "timesteps": 5, "engine": "reference"} | changes
    with OneLine(InputError, *words):
        simulate(network, **arguments)


def test_images_and_labels_of_other_types() -> None:
    """Lists, tensors and any type of numbers hold the same."""
    network = chain("1", (1, 2, 2), [[1, 2, 3, 4]], [1 << 16], [0], [[0], [1]])
    pixels = np.arange(8).reshape(2, 1, 2, 2)
    expected = simulate(network, pixels.astype(float), [0, 1], timesteps=30, engine="reference")
    tensor = torch.from_numpy(pixels).double()
    variants: list[Any] = [pixels, pixels.astype(np.float32), pixels.astype(np.uint8), pixels.tolist(), tensor]
    variants += [tensor.requires_grad_(), tensor.bfloat16(), tensor.half(), tensor.int()]
    variants += [np.asfortranarray(pixels.astype(float)), pixels.astype(">f8")]
    labels = [np.array([0, 1], kind) for kind in (np.uint8, np.int32, np.uint64, ">i2")]
    for images in variants:
        assert_same_log(simulate(network, images, [0, 1], timesteps=30, engine="reference"), expected)
    for kinds in (*labels, torch.tensor([0, 1]), torch.tensor([0, 1], dtype=torch.uint8)):
        assert_same_log(simulate(network, pixels, kinds, timesteps=30, engine="reference"), expected)
    assert_same_log(simulate(network, pixels, [0, 1], timesteps=np.int16(30), engine="reference"), expected)  # type: ignore[arg-type]


def test_engines_by_name(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """On a CPU ``auto`` is ``event``, and ``dense`` with a word about it where ``event`` cannot."""
    network, _, _ = small()
    for name in ENGINES:
        assert choose_engine(network, name, device="cpu") == name
    assert choose_engine(network, device="cpu") == "event"
    assert not caplog.messages
    monkeypatch.setattr("negspike.spiking.event.engine.refuses", lambda _: "layer0 is too large")
    with caplog.at_level("WARNING", "negspike"):
        assert choose_engine(network, device="cpu") == "dense"
    assert len(caplog.messages) == 1 and "layer0 is too large" in caplog.messages[0]
    with OneLine(InputError, "'event'", "layer0 is too large", "dense"):
        choose_engine(network, "event", device="cpu")


def test_until_silent_ends_at_the_bound_or_the_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    unbounded = chain("1-1", (1, 1, 1), [[1], [1]], [1 << 16] * 2, [0, 0], [[0], [1]])
    images = np.array([0.0, 50.0]).reshape(2, 1, 1, 1)
    for cap, silent in ((50, -1), (51, 50)):
        monkeypatch.setattr(simulation.run_logged, "__kwdefaults__", {"cap": cap, "report": None})
        log = simulate(unbounded, images, [0, 0], engine="reference")
        assert log.timesteps == cap
        assert log.silent.tolist() == [0, silent]
    monkeypatch.undo()
    network = residual_network()  # certified: 14 steps
    assert simulation.most_timesteps(network, "until_silent") == 15
    assert simulate(network, np.full((1, 1, 1, 4), 1e6), engine="reference").timesteps <= 15


@pytest.mark.parametrize("engine", ["reference", "dense", "event"])
def test_memory_follows_the_steps_until_silence(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cap that nobody reaches costs nothing; where more steps are needed, fewer images are recorded at a time."""
    network = chain("1-1", (1, 1, 1), [[1], [1]], [1 << 16] * 2, [0, 0], [[0], [1]])
    images = np.array([0.0, 50.0, 3.0, 7.0, 200.0, 1.0]).reshape(-1, 1, 1, 1)
    monkeypatch.setattr(simulation.run_logged, "__kwdefaults__", {"cap": 10**6, "report": None})
    monkeypatch.setattr(simulation, "FIRST_STEPS", 20)
    monkeypatch.setattr(simulation, "RECORDED_BYTES", 6 * 20 * Recording.bytes_per_step(network))
    asked, empty = list[tuple[int, int]](), Recording.empty

    def watched(network: SpikingNetwork, *, images: int, timesteps: int) -> Recording:
        asked.append((images, timesteps))
        return empty(network, images=images, timesteps=timesteps)

    monkeypatch.setattr(Recording, "empty", watched)
    found = simulate(network, images, np.zeros(6, int), engine=engine)
    monkeypatch.undo()
    assert asked == [(6, 20), (1, 80), (1, 80), (1, 80), (1, 80), (1, 80), (1, 320), (1, 320)]
    assert_same_log(found, simulate(network, images, np.zeros(6, int), timesteps=1000, engine=engine).until_silent())


@pytest.mark.parametrize(("seconds", "expected"), [(-1.0, [2, 4, 5]), (1.0, [5])])
def test_progress_and_chunks(seconds: float, expected: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    network = chain("1", (1, 1, 1), [[1]], [1 << 16], [0], [[0], [1]])
    monkeypatch.setattr("negspike.spiking.simulation.REPORT_SECONDS", seconds)
    monkeypatch.setattr("negspike.console.time.monotonic", lambda: 7.0)  # a clock too coarse to move
    lines: list[str] = []
    with chunks(2):
        runner = make_engine(network, "reference")
        seen: list[tuple[slice, Recording]] = list(
            run_chunks(network, np.ones((5, 1, 1, 1)), 3, runner=runner, report=lines.append)
        )
    assert [(chunk.start, chunk.stop) for chunk, _ in seen] == [(0, 2), (2, 4), (4, 5)]
    assert [len(recording.counts["layer0"]) for _, recording in seen] == [2, 2, 1]
    assert [line.split(":")[0] for line in lines] == [f"image {number}/5" for number in expected]


def test_the_oracle_knows_the_residual_network() -> None:
    """Worked out by hand above; so the oracle of everything else is right where it can be checked."""
    result = Oracle(residual_network()).simulate(np.array([2.0, 0, 3, 0]).reshape(1, 1, 4), 7)
    assert result.counts == {"a": [2, 0, 3, 0], "b": [3, -2, 5, -1]}
    assert result.sops == [11, 11, 8, 2, 2, 0, 0]
    assert (result.logits, result.silent) == ([8, -5], 5)
