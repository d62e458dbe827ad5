"""All engines give the same integers, and those of a simulator of loops and rationals; the arithmetic is exact."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import OneLine
from hypothesis import given
from hypothesis import strategies as st
from negspike.spiking.convolution import FLOAT64_EXACT, Convolution, convolve, convolve_int64
from spiking_networks import Case, cases, constants, examples, integer_network, naive_simulation

from negspike import SimulationLog, SpikingNetwork, simulate
from negspike.errors import InputError
from negspike.spiking import dense
from negspike.spiking.dense import DenseEngine
from negspike.spiking.event import engine as event
from negspike.spiking.exact import FLOAT32_EXACT, exact_arithmetic, weight_parts
from negspike.spiking.recording import Recording, synapses_per_spike
from negspike.spiking.reference import ReferenceEngine
from negspike.spiking.simulation import make_engine
from negspike.training.topology import parse_topology

CPU = torch.device("cpu")
ENGINES = ["reference", "dense", "event"]


def assert_same_recording(found: Recording, expected: Recording) -> None:
    for name in ("predictions", "positive", "negative", "sops"):
        array, other = getattr(found, name), getattr(expected, name)
        np.testing.assert_array_equal(array, other, err_msg=name)
        assert array.dtype == other.dtype == np.int64
    assert len(found.counts) == len(expected.counts)
    for array, other in zip(found.counts, expected.counts, strict=True):
        np.testing.assert_array_equal(array, other)
        assert array.dtype == other.dtype == np.int32


def assert_same_log(found: SimulationLog, expected: SimulationLog) -> None:
    for name in ("correct", "spikes", "net_spikes", "sops", "positive", "negative", "predictions", "silent"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    for array, other in zip(found.counts, expected.counts, strict=True):
        np.testing.assert_array_equal(array, other)


# --- the engines against each other ---------------------------------------------------------------------------------


@examples(150)
@given(case=cases())
def test_dense_equals_reference(case: Case) -> None:
    network = case.network()
    encoded = network.encode(case.images)
    network.check_potentials(encoded, case.timesteps)
    expected = ReferenceEngine(network).run(encoded, case.timesteps)
    assert_same_recording(DenseEngine(network, CPU).run(encoded, case.timesteps), expected)

    log = SimulationLog.from_recording(expected, case.labels, 50)
    activations = network.activations(case.images)
    for counts, exact in zip(log.counts, activations, strict=True):
        np.testing.assert_array_equal(counts[log.silent], exact[log.silent])
    np.testing.assert_array_equal(network.logits(activations[-1]).argmax(1)[log.silent], log.predictions[log.silent])


@examples(40)
@given(case=cases(images=8, timesteps=30), chunk=st.sampled_from([1, 3, 7]), share=st.sampled_from([0.0, 0.5, 1.0]))
def test_nothing_depends_on_chunks_threads_or_batches(case: Case, chunk: int, share: float) -> None:
    network = case.network()
    expected = simulate(network, case.images, case.labels, case.timesteps, 50, "reference")
    with constants(dense, LARGEST_CHUNK=chunk, WHOLE_CHUNK_SHARE=share):
        assert make_engine(network, "dense").chunk_size == chunk
        threads = 1 + chunk % 2
        found = simulate(network, case.images, case.labels, case.timesteps, chunk + 1, "dense", threads)
    assert_same_log(found, expected)
    assert found.batch_size == chunk + 1
    assert found.counts[0].shape[0] == len(case.images)


@examples(20)
@given(case=cases(images=8, timesteps=30))
def test_reference_does_not_depend_on_chunks(case: Case) -> None:
    network = case.network()
    expected = simulate(network, case.images, case.labels, case.timesteps, engine="reference")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ReferenceEngine, "chunk_size", 2)
        assert_same_log(simulate(network, case.images, case.labels, case.timesteps, engine="reference"), expected)


@pytest.mark.parametrize("engine", ENGINES)
def test_more_steps_change_nothing_before(engine: str) -> None:
    """T and 2T begin alike; an image that was silent at T stays silent, with the same counts."""

    @examples(30)
    @given(case=cases(timesteps=20))
    def check(case: Case) -> None:
        network, half = case.network(), case.timesteps
        short = simulate(network, case.images, case.labels, half, engine=engine)
        long = simulate(network, case.images, case.labels, 2 * half, engine=engine)
        for name in ("correct", "spikes", "net_spikes", "sops", "positive", "negative"):
            np.testing.assert_array_equal(getattr(long, name)[:, :half], getattr(short, name), err_msg=name)
        assert (long.silent >= short.silent).all()
        silent = short.silent
        np.testing.assert_array_equal(long.spikes[silent, -1], short.spikes[silent, -1])
        np.testing.assert_array_equal(long.sops[silent, -1], short.sops[silent, -1])
        np.testing.assert_array_equal(long.predictions[silent], short.predictions[silent])
        for array, other in zip(long.counts, short.counts, strict=True):
            np.testing.assert_array_equal(array[silent], other[silent])

    check()


# --- against loops over rationals -----------------------------------------------------------------------------------


@examples(60)
@given(case=cases(largest_side=4, largest_width=3, depth=4, images=2, timesteps=7))
def test_engines_equal_the_naive_simulation(case: Case) -> None:
    network = case.network()
    encoded = network.encode(case.images)
    found = DenseEngine(network, CPU).run(encoded, case.timesteps)
    assert_same_recording(ReferenceEngine(network).run(encoded, case.timesteps), found)
    for number, image in enumerate(case.images):
        expected = naive_simulation(network, image, case.timesteps)
        assert found.predictions[number].tolist() == expected.predictions
        assert found.positive[number].tolist() == expected.positive
        assert found.negative[number].tolist() == expected.negative
        assert found.sops[number].tolist() == expected.sops
        assert [counts[number].ravel().tolist() for counts in found.counts] == expected.counts


@pytest.mark.parametrize("engine", ENGINES)
def test_sums_of_the_log(engine: str) -> None:
    """Net spikes are the counts; per layer and per image add up to the same."""

    @examples(25)
    @given(case=cases(timesteps=15))
    def check(case: Case) -> None:
        log = simulate(case.network(), case.images, case.labels, case.timesteps, engine=engine)
        total = sum(counts.reshape(len(counts), -1).sum(1) for counts in log.counts)
        np.testing.assert_array_equal(log.net_spikes[:, -1], total)
        np.testing.assert_array_equal((log.positive + log.negative).sum(0).cumsum(), log.spikes.sum(0))
        np.testing.assert_array_equal((log.positive - log.negative).sum(0).cumsum(), log.net_spikes.sum(0))
        assert all((counts >= 0).all() and (counts <= case.timesteps).all() for counts in log.counts)

    check()


# --- single neurons -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("shift", [-1, 0, 1])
@pytest.mark.parametrize("level", [0, 1, 2, 5])
def test_ties(engine: str, shift: int, level: int) -> None:
    """A potential exactly on base + n theta has reached n; one unit below it has not."""
    theta, base = 3 << 16, -(7 << 16)
    potential = base + level * theta + shift
    # one unit of potential is 2^-16 of a pixel's step, so weight 1 and a pixel of `potential` units
    network = integer_network("1", (1, 1, 1), [[1]], [theta], [base], [[0], [1]])
    log = simulate(network, np.full((1, 1, 1, 1), potential / 2**16), np.array([1]), 12, engine=engine)
    expected = max(0, level - (shift < 0))
    assert log.counts[0].ravel().tolist() == [expected]
    assert log.spikes[0].tolist() == [min(t + 1, expected) for t in range(12)]
    assert network.activations(np.full((1, 1, 1, 1), potential / 2**16))[0].item() == expected


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("shift", [-1, 0, 1])
def test_ties_of_negative_spikes(engine: str, shift: int) -> None:
    """Two spikes of weight 4, then five of weight -1 arrive; a potential of exactly base + 1 theta keeps its spike.

    The first layer's neurons fire 2 and 5 times, one a step, so the second sees 3, 6, 5, 4, 3 in weight units.
    """
    first = integer_network(
        *("2-1", (2, 1, 1), [[[1, 0], [0, 1]], [[4, -1]]]),
        *([1 << 16, 3 << 16], [0, shift], [[0], [1]]),
    )
    images = np.array([2.0, 5.0]).reshape(1, 2, 1, 1)
    log = simulate(first, images, np.array([1]), 8, engine=engine)
    # base + theta is 3 units and `shift` extra bits: at the end the potential is 3 units
    assert log.counts[0].ravel().tolist() == [2, 5]
    assert log.counts[1].item() == (0 if shift > 0 else 1)
    assert log.counts[1].item() == first.activations(images)[1].item()
    # steps:     z = 3, 6, 5, 4, 3, 3, ...
    positive = {-1: [1, 1, 0, 0, 0, 0, 0, 0], 0: [1, 1, 0, 0, 0, 0, 0, 0], 1: [0, 1, 0, 0, 0, 0, 0, 0]}
    negative = {-1: [0, 0, 1, 0, 0, 0, 0, 0], 0: [0, 0, 1, 0, 0, 0, 0, 0], 1: [0, 0, 0, 0, 1, 0, 0, 0]}
    assert log.positive[1].tolist() == positive[shift]
    assert log.negative[1].tolist() == negative[shift]


@pytest.mark.parametrize("depth", [2, 3])
def test_fires_without_any_input(depth: int) -> None:
    """base + theta of at most 0: a neuron of a later layer fires although nothing ever reaches it."""
    tokens = "-".join(["1"] * depth)
    bases = [0] * (depth - 1) + [-3 << 16]
    network = integer_network(tokens, (1, 1, 1), [[1]] * depth, [1 << 16] * depth, bases, [[0], [1]])
    images = np.array([0.0, 1.0, 0.0]).reshape(3, 1, 1, 1)
    logs = [simulate(network, images, np.array([1, 1, 0]), 6, engine=engine) for engine in ENGINES]
    assert_same_log(logs[1], logs[0])
    assert_same_log(logs[2], logs[0])
    assert logs[1].counts[-1].ravel().tolist() == [3, 4, 3]
    assert logs[1].spikes[0].tolist() == [1, 2, 3, 3, 3, 3]
    assert logs[1].sops[0].tolist() == [2, 4, 6, 6, 6, 6]
    assert logs[1].predictions.tolist() == [1, 1, 1]


def test_fires_without_input_in_every_chunk() -> None:
    """The state of the chunk before is forgotten, what is at rest included."""
    network = integer_network("1-1", (1, 1, 1), [[1], [1]], [1 << 16] * 2, [0, -2 << 16], [[0], [1]])
    with constants(dense, LARGEST_CHUNK=1):
        log = simulate(network, np.zeros((3, 1, 1, 1)), np.array([1, 1, 0]), 4, engine="dense")
    assert log.spikes.tolist() == [[1, 2, 2, 2]] * 3
    assert log.correct[:, -1].tolist() == [True, True, False]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("rows", "expected"), [([[1], [1], [1]], 0), ([[0], [1], [1]], 1), ([[-2], [-1], [-1]], 1), ([[0], [0], [0]], 0)]
)
def test_equal_logits_give_the_lowest_class(engine: str, rows: list[list[int]], expected: int) -> None:
    network = integer_network("1", (1, 1, 1), [[1]], [1 << 16], [0], rows)
    log = simulate(network, np.full((40, 1, 1, 1), 3.0), np.full(40, expected), 5, engine=engine)
    assert log.correct.all()
    assert (log.predictions == expected).all()
    assert network.logits(network.activations(np.full((1, 1, 1, 1), 3.0))[-1]).argmax(1).tolist() == [expected]


@pytest.mark.parametrize("engine", ENGINES)
def test_many_classes_with_equal_logits(engine: str) -> None:
    """Vector code compares several at once; the lowest still wins."""
    rows = np.zeros((100, 1), int)
    rows[[37, 38, 64, 99]] = 5
    network = integer_network("1", (1, 1, 1), [[1]], [1 << 16], [0], rows)
    log = simulate(network, np.full((3, 1, 1, 1), 3.0), np.full(3, 37), 5, engine=engine)
    assert (log.predictions == 37).all()


def test_one_time_step() -> None:
    network = integer_network("1", (1, 1, 1), [[1]], [1 << 16], [0], [[0], [1]])
    for engine in ENGINES:
        log = simulate(network, np.array([0.0, 5.0]).reshape(2, 1, 1, 1), np.array([0, 1]), 1, engine=engine)
        assert log.silent.tolist() == [True, False]
        assert log.correct.tolist() == [[True], [True]]


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


@pytest.mark.parametrize(
    ("topology", "shape"), [("4C1-3C5", (2, 6, 5)), ("60-20", (2, 6, 6)), ("90C3-P3-30", (1, 5, 4))]
)
@pytest.mark.parametrize("signs", ["extreme", "random"])
def test_full_weights_of_24_bits(topology: str, shape: tuple[int, int, int], signs: str) -> None:
    """Sums of absolute weights far above 2^24; every sum of spikes is that of int64."""
    limit = 2**23 - 1
    random = np.random.default_rng(3)
    weights = []
    for geometry in parse_topology(topology, shape).layers:
        weight = random.integers(-limit, limit + 1, geometry.weight_shape)
        weights.append(weight if signs == "random" else np.where(weight < 0, -limit, limit))
    count = len(weights)
    network = integer_network(
        topology,
        shape,
        weights,
        [1 << 38] * count,
        [-1 << 35] * count,
        np.eye(2, parse_topology(topology, shape).features),
    )
    engine = DenseEngine(network, CPU)
    for layer in engine.layers[1:]:
        assert len(layer.parts) >= 2
        geometry = layer.geometry
        spikes = random.integers(-1, 2, (5, *geometry.in_shape))
        spikes[0], spikes[1] = 1, -1
        with exact_arithmetic(None):
            found = layer.current(torch.from_numpy(spikes).float()).numpy()
        np.testing.assert_array_equal(found, convolve_int64(spikes, layer.source.weight, geometry))
    images = random.normal(0, 1, (4, *shape))
    labels = np.zeros(4, int)
    assert_same_log(
        simulate(network, images, labels, 40, engine="dense"), simulate(network, images, labels, 40, engine="reference")
    )


@examples(60)
@given(case=cases(images=1, timesteps=1), seed=st.integers(0, 2**32 - 1), large=st.booleans())
def test_convolutions_of_integers(case: Case, seed: int, large: bool) -> None:
    """In float64 and, where sums may leave its 53 bits, in int64: both are sums over loops."""
    random = np.random.default_rng(seed)
    for geometry in case.geometry:
        limit = 1 << (40 if large else 20)
        x = random.integers(-limit, limit, (2, *geometry.in_shape))
        weight = random.integers(-(2**14), 2**14, geometry.weight_shape)
        padded = np.pad(x, ((0, 0), (0, 0), *geometry.padding)).astype(object)
        expected = np.zeros((2, *geometry.out_shape), object)
        for _, y, column in np.ndindex(geometry.out_shape):
            rows = slice(y * geometry.stride, y * geometry.stride + geometry.kernel[0])
            columns = slice(column * geometry.stride, column * geometry.stride + geometry.kernel[1])
            window = padded[:, :, rows, columns]
            for image in range(2):
                expected[image, :, y, column] = (weight.astype(object) * window[image]).sum((1, 2, 3))
        np.testing.assert_array_equal(convolve(x, weight, geometry).astype(object), expected)
        np.testing.assert_array_equal(convolve_int64(x, weight, geometry).astype(object), expected)


@examples(60)
@given(case=cases(images=1, timesteps=1), seed=st.integers(0, 2**32 - 1), bits=st.integers(2, 24))
def test_convolutions_in_parts(case: Case, seed: int, bits: int) -> None:
    """The same, whatever inputs and numbers of images a layer meets one after the other."""
    random = np.random.default_rng(seed)
    for geometry in case.geometry:
        weight = random.integers(1 - (1 << (bits - 1)), 1 << (bits - 1), geometry.weight_shape)
        layer = Convolution(weight, geometry)
        for images, largest in ((2, 9), (1, 100), (2, 0), (2, 3), (1, 1 << 20), (2, 1 << 40), (1, 5)):
            x = random.integers(-largest, largest + 1, (images, *geometry.in_shape))
            np.testing.assert_array_equal(layer(x), convolve_int64(x, weight, geometry))


@pytest.mark.parametrize(("largest", "parts"), [(1, 2), (14, 2), (60, 3), (1 << 20, 0)])
def test_convolutions_of_counts_are_done_in_float32(largest: int, parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    geometry = parse_topology("8C3", (512, 4, 4)).layers[0]
    random = np.random.default_rng(0)
    weight = random.integers(-(2**15), 2**15, geometry.weight_shape)
    x = random.integers(0, largest + 1, (3, 512, 4, 4))
    layer = Convolution(weight, geometry)
    expected = convolve_int64(x, weight, geometry)
    np.testing.assert_array_equal(layer(x), expected)
    assert len(layer._parts) == parts
    if parts:
        # The first time was compared with float64, after that float32 is alone.
        monkeypatch.setattr("negspike.spiking.convolution.convolve", None)
        np.testing.assert_array_equal(layer(x), expected)


def test_a_library_that_rounds_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    geometry = parse_topology("8C3", (512, 4, 4)).layers[0]
    random = np.random.default_rng(0)
    weight = random.integers(-(2**15), 2**15, geometry.weight_shape)
    layer = Convolution(weight, geometry)
    plain = torch.nn.functional.conv2d

    def rounding(x: torch.Tensor, weight: torch.Tensor, **options: Any) -> torch.Tensor:
        result = plain(x, weight, **options)
        return result.bfloat16().to(result.dtype) if len(x) == 2 and result.dtype == torch.float32 else result

    monkeypatch.setattr("negspike.spiking.convolution.F.conv2d", rounding)
    for images in (1, 2, 1, 2):
        x = random.integers(0, 9, (images, 512, 4, 4))
        np.testing.assert_array_equal(layer(x), convolve_int64(x, weight, geometry))
    assert not layer._parts


def test_convolution_just_above_float64() -> None:
    """2^53 + 1 is the first integer that float64 cannot hold."""
    geometry = parse_topology("1", (2, 1, 1)).layers[0]
    x = np.array([FLOAT64_EXACT // 4, 1]).reshape(1, 2, 1, 1)
    weight = np.array([4, 1]).reshape(1, 2, 1, 1)
    assert convolve(x, weight, geometry).item() == FLOAT64_EXACT + 1


def test_synapses_per_spike() -> None:
    """A 3x3 window of a 4x3 image, 5 outputs: 4 windows hold a corner, 6 an edge, 9 the inside."""
    costs = synapses_per_spike(parse_topology("2C1-5C3-P2-7", (1, 4, 3), classes=10))
    np.testing.assert_array_equal(costs[0], 5 * np.outer([2, 3, 3, 2], [2, 3, 2]))
    np.testing.assert_array_equal(costs[1], np.full((4, 3), 5))
    np.testing.assert_array_equal(costs[2], np.full((2, 2), 7))
    np.testing.assert_array_equal(costs[3], [[10]])
    valid = synapses_per_spike(parse_topology("2C1-P2", (1, 5, 4), "valid"))
    np.testing.assert_array_equal(valid[0], 2 * np.outer([1, 1, 1, 1, 0], [1, 1, 1, 1]))


# --- the self check, and the caller's settings ----------------------------------------------------------------------


def convolutional() -> SpikingNetwork:
    random = np.random.default_rng(5)
    weights = [random.integers(-3000, 3000, shape) for shape in ((4, 1, 3, 3), (6, 4, 3, 3), (5, 6, 5, 5))]
    return integer_network("4C3-6C3-5", (1, 5, 5), weights, [1 << 29] * 3, [-1 << 27] * 3, np.eye(2, 5))


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
    with OneLine(ArithmeticError, "5" if function == "linear" else "6C3", "not exact sums", "reference"):
        DenseEngine(network, CPU)


def test_saturated_sums_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the largest sum that a neuron can reach shows it: random spikes stay far below."""
    network = convolutional()
    largest = network.layers[1].largest_sum
    original = F.conv2d

    def saturated(*args: Any, **kwargs: Any) -> torch.Tensor:
        result: torch.Tensor = original(*args, **kwargs)
        return result.clamp(max=largest - 1) if result.dtype == torch.float32 else result

    monkeypatch.setattr(F, "conv2d", saturated)
    with pytest.raises(ArithmeticError, match="6C3"):
        DenseEngine(network, CPU)


@examples(40)
@given(case=cases(images=1, timesteps=1))
def test_trial_spikes_reach_the_largest_sum(case: Case) -> None:
    """...up to what padding cuts off; and a float64 product agrees on all of them, so no false alarm."""
    network = case.network()
    for layer in DenseEngine(network, CPU).layers[1:]:
        spikes = layer._trial()
        assert spikes.shape == (3, *layer.geometry.in_shape)
        assert set(np.unique(spikes)) <= {-1, 0, 1}
        if layer.geometry.kind != "convolution" or case.padding == "valid":
            currents = convolve(spikes, layer.source.weight, layer.geometry)
            inside = all(not any(pair) for pair in layer.geometry.padding)
            assert not inside or currents[2].max() == layer.source.largest_sum


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
    network = convolutional()
    images = np.random.default_rng(0).normal(0, 1, (4, 1, 5, 5))
    logs = [simulate(network, images, np.zeros(4), 20, engine=engine) for engine in ENGINES]
    assert_same_log(logs[1], logs[0])


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


def test_autocast_is_switched_off() -> None:
    network = convolutional()
    images = np.random.default_rng(0).normal(0, 1, (4, 1, 5, 5))
    expected = simulate(network, images, np.zeros(4), 20, engine="reference")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same_log(simulate(network, images, np.zeros(4), 20, engine="dense"), expected)
        assert torch.is_autocast_enabled("cpu")


def test_other_defaults_of_the_caller() -> None:
    network = convolutional()
    images = np.random.default_rng(0).normal(0, 1, (4, 1, 5, 5))
    expected = simulate(network, images, np.zeros(4), 20, engine="reference")
    torch.set_default_dtype(torch.float64)
    try:
        assert_same_log(simulate(network, images, np.zeros(4), 20, engine="dense"), expected)
    finally:
        torch.set_default_dtype(torch.float32)


# --- what simulate refuses ------------------------------------------------------------------------------------------


def test_simulate_refuses() -> None:
    network = integer_network("1", (1, 2, 2), [[1] * 4], [1 << 16], [0], [[0], [1]])
    images, labels = np.zeros((2, 1, 2, 2)), np.zeros(2, int)
    with OneLine(InputError, "timesteps", "0"):
        simulate(network, images, labels, 0)
    with OneLine(InputError, "batch_size", "0"):
        simulate(network, images, labels, 5, 0)
    with OneLine(InputError, "'fast'", "reference", "dense"):
        simulate(network, images, labels, 5, engine="fast")
    with OneLine(InputError, "threads", "0"):
        simulate(network, images, labels, 5, threads=0)
    with OneLine(InputError, "2 images", "(3,)"):
        simulate(network, images, np.zeros(3), 5)
    with OneLine(InputError, "2 images", "(2, 1)"):
        simulate(network, images, np.zeros((2, 1)), 5)
    with OneLine(InputError, "no image"):
        simulate(network, images[:0], labels[:0], 5)
    with OneLine(InputError, "(1, 2, 2)", "(N, 1, 2, 2)"):
        simulate(network, images[0], labels, 5)
    with OneLine(InputError, "'tpu'"):
        simulate(network, images, labels, 5, device="tpu")


def test_images_of_other_types() -> None:
    """Lists, tensors, float32 and bytes hold the same numbers."""
    network = integer_network("1", (1, 2, 2), [[1, 2, 3, 4]], [1 << 16], [0], [[0], [1]])
    pixels = np.arange(8).reshape(2, 1, 2, 2)
    expected = simulate(network, pixels.astype(float), np.zeros(2), 30)
    variants: list[Any] = [pixels, pixels.astype(np.float32), pixels.astype(np.uint8), pixels.tolist()]
    variants += [torch.from_numpy(pixels), np.asfortranarray(pixels.astype(float)), pixels.astype(">f8")]
    for images in variants:
        assert_same_log(simulate(network, images, [0, 0], 30), expected)  # type: ignore[arg-type]


@pytest.mark.parametrize(("seconds", "expected"), [(-1.0, [2, 4, 5]), (1.0, [5])])
def test_progress_and_chunks(seconds: float, expected: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    network = integer_network("1", (1, 1, 1), [[1]], [1 << 16], [0], [[0], [1]])
    monkeypatch.setattr(event, "LARGEST_CHUNK", 2)
    monkeypatch.setattr("negspike.spiking.simulation.REPORT_SECONDS", seconds)
    monkeypatch.setattr("negspike.console.time.monotonic", lambda: 7.0)  # a clock too coarse to move
    seen: list[tuple[int, int, int]] = []
    lines: list[str] = []
    log = simulate(
        network,
        np.ones((5, 1, 1, 1)),
        np.ones(5),
        3,
        on_chunk=lambda chunk, recording: seen.append((chunk.start, chunk.stop, len(recording.counts[0]))),
        report=lines.append,
    )
    assert seen == [(0, 2, 2), (2, 4, 2), (4, 5, 1)]
    assert [line.split(":")[0] for line in lines] == [f"image {number}/5" for number in expected]
    assert log.counts == []
