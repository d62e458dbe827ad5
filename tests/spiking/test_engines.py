"""Single neurons by hand, exact arithmetic whatever the libraries and the caller's settings, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import OneLine
from graphs import ENGINES, Case, Graph, cases, chain, constants, examples, graphs
from hypothesis import given
from hypothesis import strategies as st
from test_contract import assert_same_log

from negspike import SpikingNetwork, simulate
from negspike.errors import InputError
from negspike.spiking import dense
from negspike.spiking.bounds import FLOAT64_EXACT
from negspike.spiking.counting import operations_per_spike
from negspike.spiking.dense import DenseEngine
from negspike.spiking.event import engine as event
from negspike.spiking.exact import FLOAT32_EXACT, exact_arithmetic, weight_parts
from negspike.spiking.linear import ExactSum, sum_exactly, sum_int64
from negspike.spiking.nodes import MaxPool, Shape, Synapses, Window
from negspike.spiking.simulation import choose_engine, make_engine, most_timesteps, run_chunks
from negspike.training.topology import parse_topology

CPU = torch.device("cpu")


# --- single neurons -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("shift", [-1, 0, 1])
@pytest.mark.parametrize("level", [0, 1, 2, 5])
def test_ties(engine: str, shift: int, level: int) -> None:
    """A potential exactly on base + n theta has reached n; one unit below it has not."""
    theta, base = 3 << 16, -(7 << 16)
    potential = base + level * theta + shift
    # one unit of potential is 2^-16 of a pixel's step, so weight 1 and a pixel of `potential` units
    network = chain("1", (1, 1, 1), [[1]], [theta], [base], [[0], [1]])
    log = simulate(network, np.full((1, 1, 1, 1), potential / 2**16), [1], timesteps=12, engine=engine)
    expected = max(0, level - (shift < 0))
    assert log.counts["layer0"].ravel().tolist() == [expected]
    assert log.spikes[0].tolist() == [min(t + 1, expected) for t in range(12)]
    assert network.activations(np.full((1, 1, 1, 1), potential / 2**16))["layer0"].item() == expected


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("shift", [-1, 0, 1])
def test_ties_of_negative_spikes(engine: str, shift: int) -> None:
    """Two spikes of weight 4, then five of weight -1 arrive; a potential of exactly base + 1 theta keeps its spike.

    The first layer's neurons fire 2 and 5 times, one a step, so the second sees 3, 6, 5, 4, 3 in weight units.
    """
    first = chain(
        *("2-1", (2, 1, 1), [[[1, 0], [0, 1]], [[4, -1]]]),
        *([1 << 16, 3 << 16], [0, shift], [[0], [1]]),
    )
    images = np.array([2.0, 5.0]).reshape(1, 2, 1, 1)
    log = simulate(first, images, [1], timesteps=8, engine=engine)
    # base + theta is 3 units and `shift` extra bits: at the end the potential is 3 units
    assert log.counts["layer0"].ravel().tolist() == [2, 5]
    assert log.counts["layer1"].item() == (0 if shift > 0 else 1)
    assert log.counts["layer1"].item() == first.activations(images)["layer1"].item()
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
    network = chain(tokens, (1, 1, 1), [[1]] * depth, [1 << 16] * depth, bases, [[0], [1]])
    images = np.array([0.0, 1.0, 0.0]).reshape(3, 1, 1, 1)
    logs = [simulate(network, images, [1, 1, 0], timesteps=6, engine=engine) for engine in ENGINES]
    assert_same_log(logs[1], logs[0])
    assert_same_log(logs[2], logs[0])
    assert logs[1].counts[f"layer{depth - 1}"].ravel().tolist() == [3, 4, 3]
    assert logs[1].spikes[0].tolist() == [1, 2, 3, 3, 3, 3]
    assert logs[1].sops[0].tolist() == [2, 4, 6, 6, 6, 6]
    assert logs[1].predictions.tolist() == [1, 1, 1]


def test_fires_without_input_in_every_chunk() -> None:
    """The state of the chunk before is forgotten, what is at rest included."""
    network = chain("1-1", (1, 1, 1), [[1], [1]], [1 << 16] * 2, [0, -2 << 16], [[0], [1]])
    with constants(dense, LARGEST_CHUNK=1):
        log = simulate(network, np.zeros((3, 1, 1, 1)), [1, 1, 0], timesteps=4, engine="dense")
    assert log.spikes.tolist() == [[1, 2, 2, 2]] * 3
    assert log.correct is not None and log.correct[:, -1].tolist() == [True, True, False]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("rows", "expected"), [([[1], [1], [1]], 0), ([[0], [1], [1]], 1), ([[-2], [-1], [-1]], 1), ([[0], [0], [0]], 0)]
)
def test_equal_logits_give_the_lowest_class(engine: str, rows: list[list[int]], expected: int) -> None:
    network = chain("1", (1, 1, 1), [[1]], [1 << 16], [0], rows)
    log = simulate(network, np.full((40, 1, 1, 1), 3.0), np.full(40, expected), timesteps=5, engine=engine)
    assert log.correct is not None and log.correct.all()
    assert (log.predictions == expected).all()
    assert network.activations(np.full((1, 1, 1, 1), 3.0))["classifier"].argmax(1).tolist() == [expected]


@pytest.mark.parametrize("engine", ENGINES)
def test_many_classes_with_equal_logits(engine: str) -> None:
    """Vector code compares several at once; the lowest still wins."""
    rows = np.zeros((100, 1), int)
    rows[[37, 38, 64, 99]] = 5
    network = chain("1", (1, 1, 1), [[1]], [1 << 16], [0], rows)
    log = simulate(network, np.full((3, 1, 1, 1), 3.0), np.full(3, 37), timesteps=5, engine=engine)
    assert (log.predictions == 37).all()


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
    features = parse_topology(topology, shape).features
    network = chain(topology, shape, weights, [1 << 38] * count, [-1 << 35] * count, np.eye(2, features))
    engine = DenseEngine(network, CPU)
    for population in network.populations[1:]:
        (connection,) = engine.connections[population.name]
        assert len(connection.parts) >= 2
        spikes = random.integers(-1, 2, (5, *connection.source))
        spikes[0], spikes[1] = 1, -1
        with exact_arithmetic(None):
            found = connection.sums(torch.from_numpy(spikes).float()).numpy()
        np.testing.assert_array_equal(found, sum_int64(connection.synapses, spikes))
    images = random.normal(0, 1, (4, *shape))
    logs = [simulate(network, images, timesteps=40, engine=engine) for engine in ("dense", "reference")]
    assert_same_log(*logs)


def all_synapses(network: SpikingNetwork) -> list[tuple[Synapses, Shape]]:
    """Each with the shape of its source."""
    nodes = [node for node in network.nodes if not isinstance(node, MaxPool)]
    return [(synapses, network.shapes[synapses.source]) for node in nodes for synapses in node.synapses]


def sum_in_loops(synapses: Synapses, x: np.ndarray) -> np.ndarray:
    """The sums of the windows in Python's integers, window after window."""
    window, weight = synapses.window, synapses.weight
    picked = x if synapses.channels is None else x[:, synapses.channels]
    padded = np.pad(picked, ((0, 0), (0, 0), *window.padding)).astype(object)
    rows, columns = window.out_size(*x.shape[2:])
    expected = np.zeros((len(x), synapses.outputs, rows, columns), object)
    for o, row, column in np.ndindex(synapses.outputs, rows, columns):
        top, left = row * window.stride[0], column * window.stride[1]
        bottom, right = (
            start + (taps - 1) * step + 1
            for start, taps, step in zip((top, left), window.kernel, window.dilation, strict=True)
        )
        seen = padded[:, :, top : bottom : window.dilation[0], left : right : window.dilation[1]]
        if weight is None:
            expected[:, o, row, column] = seen[:, o].sum((1, 2))
            continue
        first = o // (synapses.outputs // synapses.groups) * weight.shape[1]
        products = seen[:, first : first + weight.shape[1]] * weight[o].astype(object)
        expected[:, o, row, column] = products.sum((1, 2, 3))
    return expected


@examples(80)
@given(graph=graphs(images=1), seed=st.integers(0, 2**32 - 1), bits=st.sampled_from([1, 20, 28]))
def test_sums_of_integers(graph: Graph, seed: int, bits: int) -> None:
    """In float64 and, where sums may leave its 53 bits, in int64: both are sums over loops."""
    random = np.random.default_rng(seed)
    for synapses, source in all_synapses(graph.network):
        x = random.integers(-(1 << bits), 1 << bits, (2, *source))
        expected = sum_in_loops(synapses, x)
        np.testing.assert_array_equal(sum_exactly(synapses, x).astype(object), expected)
        np.testing.assert_array_equal(sum_int64(synapses, x).astype(object), expected)


@examples(80)
@given(graph=graphs(images=1), seed=st.integers(0, 2**32 - 1))
def test_sums_in_parts(graph: Graph, seed: int) -> None:
    """The same, whatever inputs and numbers of images a synapse meets one after the other."""
    random = np.random.default_rng(seed)
    for synapses, source in all_synapses(graph.network):
        summed = ExactSum(synapses)
        for images, largest in ((2, 9), (1, 100), (2, 0), (2, 3), (1, 1 << 20), (2, 1 << 32), (1, 5)):
            x = random.integers(-largest, largest + 1, (images, *source))
            np.testing.assert_array_equal(summed(x), sum_int64(synapses, x))


def wide() -> Synapses:
    """A 3x3 convolution of 512 channels, with 16-bit weights."""
    weight = np.random.default_rng(0).integers(-(2**15) + 1, 2**15, (8, 512, 3, 3)).astype(np.int16)
    return Synapses("input", Window((3, 3), padding=((1, 1), (1, 1))), np.ones(8, np.int64), weight)


@pytest.mark.parametrize(("largest", "parts"), [(1, 2), (14, 2), (60, 3), (1 << 20, 0)])
def test_sums_of_counts_are_done_in_float32(largest: int, parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    synapses = wide()
    x = np.random.default_rng(1).integers(0, largest + 1, (3, 512, 4, 4))
    summed = ExactSum(synapses)
    expected = sum_int64(synapses, x)
    np.testing.assert_array_equal(summed(x), expected)
    assert len(summed._parts) == parts
    if parts:
        # The first time was compared with float64, after that float32 is alone.
        monkeypatch.setattr("negspike.spiking.linear.sum_exactly", None)
        np.testing.assert_array_equal(summed(x), expected)


def test_a_library_that_rounds_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    synapses = wide()
    random = np.random.default_rng(1)
    summed = ExactSum(synapses)
    plain = F.conv2d

    def rounding(x: torch.Tensor, *rest: Any) -> torch.Tensor:
        result = plain(x, *rest)
        return result.bfloat16().to(result.dtype) if len(x) == 2 and result.dtype == torch.float32 else result

    monkeypatch.setattr(F, "conv2d", rounding)
    for images in (1, 2, 1, 2):
        x = random.integers(0, 9, (images, 512, 4, 4))
        np.testing.assert_array_equal(summed(x), sum_int64(synapses, x))
    assert not summed._parts


def test_a_sum_just_above_float64() -> None:
    """2^53 + 1 is the first integer that float64 cannot hold."""
    weight = np.array([4, 1], np.int16).reshape(1, 2, 1, 1)
    x = np.array([FLOAT64_EXACT // 4, 1]).reshape(1, 2, 1, 1)
    assert sum_exactly(Synapses("input", Window(), np.ones(1, np.int64), weight), x).item() == FLOAT64_EXACT + 1


def test_operations_per_spike() -> None:
    """A 3x3 window of a 4x3 image, 5 outputs: 4 windows hold a corner, 6 an edge, 9 the inside."""
    weights = [np.ones(shape) for shape in ((2, 1, 1, 1), (5, 2, 3, 3), (5, 5, 2, 2), (7, 5, 2, 2))]
    network = chain("2C1-5C3-P2-7", (1, 4, 3), weights, [1] * 4, [0] * 4, np.ones((10, 7)))
    costs = operations_per_spike(network)
    np.testing.assert_array_equal(costs["layer0"], [5 * np.outer([2, 3, 3, 2], [2, 3, 2])])
    np.testing.assert_array_equal(costs["layer1"], np.full((1, 4, 3), 5))
    np.testing.assert_array_equal(costs["layer2"], np.full((1, 2, 2), 7))
    np.testing.assert_array_equal(costs["layer3"], [[[10]]])
    weights = [np.ones((2, 1, 1, 1)), np.ones((2, 2, 2, 2))]
    cropped = chain("2C1-P2", (1, 5, 4), weights, [1] * 2, [0] * 2, np.ones((1, 8)), padding="valid")
    costs = operations_per_spike(cropped)
    np.testing.assert_array_equal(costs["layer0"], [2 * np.outer([1, 1, 1, 1, 0], [1, 1, 1, 1])])


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
    with OneLine(
        ArithmeticError, "from layer1" if function == "linear" else "from layer0", "not exact sums", "reference"
    ):
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
    with pytest.raises(ArithmeticError, match="from layer0"):
        DenseEngine(network, CPU)


@examples(40)
@given(case=cases(images=1, timesteps=1))
def test_trial_spikes_reach_the_largest_sum(case: Case) -> None:
    """...up to what padding cuts off; and a float64 product agrees on all of them, so no false alarm."""
    network = case.network()
    engine = DenseEngine(network, CPU)
    for name in [node.name for node in network.nodes][1:]:
        (connection,) = engine.connections[name]
        spikes = connection._trial()
        assert spikes.shape == (3, *network.shapes[connection.synapses.source])
        assert set(np.unique(spikes)) <= {-1, 0, 1}
        if not np.any(connection.synapses.window.padding):
            sums = sum_exactly(connection.synapses, spikes)
            assert sums[2].max() == connection.synapses.largest_sums.max()


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
    logs = [simulate(network, images, timesteps=20, engine=engine) for engine in ENGINES]
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
    subprocess.run([sys.executable, "-c", NEW_INTERFACE], check=True)


def test_autocast_is_switched_off() -> None:
    network = convolutional()
    images = np.random.default_rng(0).normal(0, 1, (4, 1, 5, 5))
    expected = simulate(network, images, timesteps=20, engine="reference")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same_log(simulate(network, images, timesteps=20, engine="dense"), expected)
        assert torch.is_autocast_enabled("cpu")


def test_other_defaults_of_the_caller() -> None:
    network = convolutional()
    images = np.random.default_rng(0).normal(0, 1, (4, 1, 5, 5))
    expected = simulate(network, images, timesteps=20, engine="reference")
    torch.set_default_dtype(torch.float64)
    try:
        assert_same_log(simulate(network, images, timesteps=20, engine="dense"), expected)
    finally:
        torch.set_default_dtype(torch.float32)


# --- what simulate refuses, and its engine --------------------------------------------------------------------------


def small(weight: Any = 1) -> SpikingNetwork:
    return chain("1", (1, 2, 2), [np.broadcast_to(weight, 4)], [1 << 16], [0], [[0], [1]])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"timesteps": 0}, ("timesteps", "0")),
        ({"timesteps": 2.5}, ("timesteps", "2.5")),
        ({"timesteps": True}, ("timesteps", "True")),
        ({"timesteps": "soon"}, ("timesteps", "'soon'", "until_silent")),
        ({"batch_size": 0}, ("batch_size", "0")),
        ({"batch_size": 1.5}, ("batch_size", "1.5")),
        ({"engine": "fast"}, ("'fast'", "reference", "dense", "event")),
        ({"threads": 0}, ("threads", "0")),
        ({"device": "tpu"}, ("'tpu'",)),
        ({"engine": "event", "device": "cuda"}, ()),
        ({"labels": np.zeros(3, int)}, ("2 images", "(3,)")),
        ({"labels": np.zeros((2, 1), int)}, ("2 images", "(2, 1)")),
        ({"labels": [0, 2]}, ("labels", "from 0 to 2", "classes 0 to 1")),
        ({"labels": [-1, 0]}, ("labels", "from -1 to 0")),
        ({"labels": [0.0, 1.0]}, ("labels", "float64")),
        ({"images": np.zeros((0, 1, 2, 2)), "labels": np.zeros(0, int)}, ("no image",)),
        ({"images": np.zeros((0, 1, 2, 2)), "labels": None}, ("no image",)),
        ({"images": np.zeros((1, 2, 2)), "labels": None}, ("(1, 2, 2)", "(N, 1, 2, 2)")),
    ],
)
def test_simulate_refuses(options: dict[str, Any], words: tuple[str, ...]) -> None:
    arguments: dict[str, Any] = {"images": np.zeros((2, 1, 2, 2)), "labels": [0, 1], "timesteps": 5}
    with OneLine(InputError, *words):
        simulate(small(), **(arguments | options))


def test_images_of_other_types() -> None:
    """Lists, tensors, float32 and bytes hold the same numbers."""
    network = small([1, 2, 3, 4])
    pixels = np.arange(8).reshape(2, 1, 2, 2)
    expected = simulate(network, pixels.astype(float), [0, 0], timesteps=30)
    variants: list[Any] = [pixels, pixels.astype(np.float32), pixels.astype(np.uint8), pixels.tolist()]
    variants += [torch.from_numpy(pixels), np.asfortranarray(pixels.astype(float)), pixels.astype(">f8")]
    for images in variants:
        assert_same_log(simulate(network, images, torch.zeros(2, dtype=torch.int32), timesteps=30), expected)


def test_steps_until_silent() -> None:
    """The certified latency and one step that shows the silence, or the cap where there is none."""
    network = small()
    assert network.latency_bound is None
    assert most_timesteps(network, "until_silent") == 1000
    assert most_timesteps(network, "until_silent", cap=7) == 7
    assert most_timesteps(network, np.int16(3)) == 3  # type: ignore[arg-type]
    bounded = SpikingNetwork(
        network.input_shape, (replace(network.populations[0], high=5), network.readout), network.weight_bits
    )
    assert most_timesteps(bounded, "until_silent") == 6
    assert most_timesteps(bounded, "until_silent", cap=4) == 4
    log = simulate(bounded, np.full((1, 1, 2, 2), 100.0))
    assert (log.timesteps, log.silent.tolist(), log.counts["layer0"].item()) == (6, [5], 5)


def test_engines_by_name(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """On a CPU ``auto`` is ``event``, and ``dense`` with a word about it where ``event`` cannot."""
    network = small()
    for name in ENGINES:
        assert choose_engine(network, name, device="cpu") == name
    assert choose_engine(network, device="cpu") == "event"
    assert not caplog.messages
    monkeypatch.setattr(event, "refuses", lambda _: "layer0 is too large")
    with caplog.at_level("WARNING", "negspike"):
        assert choose_engine(network, device="cpu") == "dense"
    assert len(caplog.messages) == 1 and "layer0 is too large" in caplog.messages[0]
    with OneLine(InputError, "'event'", "layer0 is too large", "dense"):
        choose_engine(network, "event", device="cpu")


@pytest.mark.parametrize(("seconds", "expected"), [(-1.0, [2, 4, 5]), (1.0, [5])])
def test_progress_and_chunks(seconds: float, expected: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    network = small()
    monkeypatch.setattr(event, "LARGEST_CHUNK", 2)
    monkeypatch.setattr("negspike.spiking.simulation.REPORT_SECONDS", seconds)
    monkeypatch.setattr("negspike.console.time.monotonic", lambda: 7.0)  # a clock too coarse to move
    lines: list[str] = []
    runner = make_engine(network, "event", threads=1)
    images = np.ones((5, 1, 2, 2))
    seen = [
        (chunk.start, chunk.stop, len(recording.counts["layer0"]))
        for chunk, recording in run_chunks(network, images, 3, runner=runner, report=lines.append)
    ]
    assert seen == [(0, 2, 2), (2, 4, 2), (4, 5, 1)]
    assert [line.split(":")[0] for line in lines] == [f"image {number}/5" for number in expected]
