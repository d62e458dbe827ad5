"""From batch norm to integers: against the formulas in exact rationals, and what cannot be converted."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from itertools import product
from math import floor, isqrt, log2
from typing import Any

import numpy as np
import pytest
import torch
from conftest import OneLine
from graphs import Case, cases, examples
from hypothesis import given
from hypothesis import strategies as st
from oracle import outgoing

from negspike import SpikingNetwork, simulate
from negspike.conversion.arrays import from_network
from negspike.data.augmentation import round_images
from negspike.errors import InputError
from negspike.fixed_point import LARGEST_BASE, LARGEST_THETA, THRESHOLD_EXTRA_BITS
from negspike.spiking.bounds import check_potentials
from negspike.spiking.nodes import Neurons, Readout
from negspike.training.network import Network, predict
from negspike.training.quantization import weight_exponents
from negspike.training.topology import parse_topology

Entry = dict[str, Any]


def root(value: Fraction) -> Fraction:
    """Square root, below by less than 2^-200 of it."""
    shift = 400 + 2 * max(0, value.denominator.bit_length() - value.numerator.bit_length())
    return Fraction(isqrt((value.numerator << 2 * shift) // value.denominator), 1 << shift)


def quantized_activation(z: Fraction, gamma: float, beta: float, mean: float, sigma: Fraction, k: int) -> int:
    """2^k Q_k(ReLU(batch norm of 2^-k z)), exactly; z is counted in spikes."""
    normalized = Fraction(gamma) * (z / 2**k - Fraction(mean)) / sigma + Fraction(beta)
    count: int = floor(2**k * max(normalized, Fraction(0)) + Fraction(1, 2))
    return count


def fraction_bits(population: Neurons, layer: Mapping[str, Any]) -> list[int]:
    """How many each channel's potential has: what its threshold is larger than sigma / gamma."""
    weight = population.synapses[0].weight
    assert weight is not None
    result = []
    for channel, theta in enumerate(population.theta.tolist()):
        gamma, sigma = abs(float(layer["gamma"][channel])), float(np.sqrt(layer["var"][channel] + layer["eps"]))
        constant = not weight[channel].any()
        result.append(THRESHOLD_EXTRA_BITS if constant else round(log2(theta) + log2(gamma) - log2(sigma)))
    return result


def entry(weight: Any, **values: Any) -> Entry:
    """One layer; parameters that are not given make batch norm the identity."""
    weight = np.asarray(weight, np.float64)
    defaults = {"gamma": 1.0, "beta": 0.0, "mean": 0.0, "var": 1.0} | values
    eps = defaults.pop("eps", 0.0)
    arrays = {name: np.broadcast_to(np.asarray(value, np.float64), len(weight)) for name, value in defaults.items()}
    return {"weight": weight, **arrays, "eps": eps}


def single(weight: Any = 1.0, k: int = 0, weight_bits: int = 16, **values: Any) -> SpikingNetwork:
    """A network of one neuron with one input."""
    layer = entry(np.reshape(weight, (1, 1, 1, 1)), **values)
    return SpikingNetwork.from_batchnorm("1", (1, 1, 1), k, [layer], np.ones((1, 2)), weight_bits=weight_bits)


def activation(network: SpikingNetwork, pixel: float) -> int:
    return int(network.activations(np.full((1, 1, 1, 1), pixel))["layer0"].item())


def only(network: SpikingNetwork) -> tuple[Neurons, np.ndarray]:
    """The first population and its weights."""
    weight = network.populations[0].synapses[0].weight
    assert weight is not None
    return network.populations[0], weight


def matrix(network: SpikingNetwork) -> np.ndarray:
    """The classifier's weights."""
    weight = network.readout.synapses[0].weight
    assert weight is not None
    return weight


def check_range(network: SpikingNetwork, pixel: float, timesteps: int) -> None:
    encoded = network.encode(np.full((1, 1, 1, 1), pixel))
    check_potentials(network, timesteps=timesteps, largest_pixel=int(np.abs(encoded).max()))


# --- the formulas ---------------------------------------------------------------------------------------------------


@examples(120)
@given(case=cases(largest_side=4, largest_width=4, depth=3, largest_k=8, images=2, bits=(8, 24)))
def test_activations_are_those_of_the_real_numbers(case: Case) -> None:
    """Layer by layer, from the integer network's own inputs and weights: floor of the exact formula.

    Except where it lies within the rounding of thresholds and bases, half of 2^-16 of a weight unit each, of a step.
    """
    network = case.network()
    activations = network.activations(case.images)
    compared = 0
    for number, (population, given_layer) in enumerate(zip(network.populations, case.layers, strict=True)):
        shifts = fraction_bits(population, given_layer)
        source = population.synapses[0].source
        ways = outgoing(population.synapses[0], network.shapes[source], population.shape)
        area = population.shape[1] * population.shape[2]
        for image in range(len(case.images)):
            inputs = (activations[source] if number else network.encode(case.images))[image].ravel().tolist()
            potentials = [0] * population.neurons
            for value, way in zip(inputs, ways, strict=True):
                for to, strength in way:
                    potentials[to] += value * strength
            found = activations[population.name][image].ravel().tolist()
            for neuron, potential in enumerate(potentials):
                channel = neuron // area
                gamma, beta, mean, var = (
                    float(given_layer[name][channel]) for name in ("gamma", "beta", "mean", "var")
                )
                sigma = root(Fraction(var + given_layer["eps"]))
                scale = Fraction(2) ** -shifts[channel]
                z = potential * scale * (-1 if gamma < 0 else 1)
                expected = quantized_activation(z, gamma, beta, mean, sigma, case.k)
                if found[neuron] != expected:
                    # How far the potential would have to move to give the count that was found.
                    tolerance = Fraction(max(found[neuron], expected) + 2) * scale / 2
                    slack = abs(Fraction(gamma)) / sigma * tolerance + Fraction(max(expected, 1)) / 2**40
                    steps = 2**case.k * Fraction(gamma) * (z / 2**case.k - Fraction(mean)) / sigma
                    steps += 2**case.k * Fraction(beta) + Fraction(1, 2)
                    assert floor(steps - slack) <= found[neuron] <= floor(steps + slack), (number, neuron)
                compared += 1
    assert compared


@examples(150)
@given(
    gamma=st.floats(0.05, 4) | st.floats(-4, -0.05),
    beta=st.floats(-3, 3),
    mean=st.floats(-3, 3),
    var=st.floats(0, 4),
    weight=st.floats(0.01, 2) | st.floats(-2, -0.01),
    k=st.integers(0, 8),
    bits=st.integers(2, 24),
)
def test_thresholds_and_bases(
    gamma: float, beta: float, mean: float, var: float, weight: float, k: int, bits: int
) -> None:
    """theta = sigma / gamma and base = 2^k mu - (2^k beta + 1/2) theta, to half a unit, or to what float64 resolves."""
    eps = 1e-5
    network = single(weight, k, bits, gamma=gamma, beta=beta, mean=mean, var=var, eps=eps)
    layer, integers = only(network)
    exponent = fraction_bits(layer, {"gamma": [gamma], "var": [var], "eps": eps})[0] - THRESHOLD_EXTRA_BITS
    sigma = root(Fraction(var + eps))
    theta = sigma / Fraction(gamma)
    base = 2**k * Fraction(mean) - (2**k * Fraction(beta) + Fraction(1, 2)) * theta
    if gamma < 0:
        # With W, mu and gamma negated; beta keeps its sign.
        theta, base = -theta, 2**k * -Fraction(mean) - (2**k * Fraction(beta) + Fraction(1, 2)) * -theta
    unit = Fraction(2) ** (-exponent - THRESHOLD_EXTRA_BITS)
    half = Fraction(1, 2) + Fraction(1, 2**10)
    # What float64 rounds on the way: a few times 2^-53 of the terms.
    terms = 2**k * abs(Fraction(mean)) + (2**k * abs(Fraction(beta)) + Fraction(1, 2)) * theta
    assert abs(int(layer.theta[0]) - theta / unit) <= half + theta / unit / 2**51
    assert abs(int(layer.base[0]) - base / unit) <= half + terms / unit / 2**50
    integer, fraction = int(integers.item()), Fraction(2) ** -exponent
    assert abs(integer) < 2 ** (bits - 1)
    assert abs(integer * fraction - (Fraction(weight) if gamma > 0 else -Fraction(weight))) <= fraction / 2
    assert layer.synapses[0].scale.tolist() == [1 << k]  # and 2^16 that the image has itself
    assert layer.step == 2.0**-k


@pytest.mark.parametrize("bits", range(2, 25))
def test_range_of_the_weights(bits: int) -> None:
    """Negating for gamma < 0 stays in the symmetric range; the largest weight uses all of it."""
    random = np.random.default_rng(bits)
    weight = random.normal(0, 1, (40, 3, 3, 3))
    weight[0, 0, 0, 0] = -(2.0**7)  # a power of two, the one value that two's complement holds with one sign only
    weight[1, 0, 0, 0] = 2.0**7
    gamma = random.choice([-1.0, 1.0], 40)
    network = SpikingNetwork.from_batchnorm(
        "40C3", (3, 3, 3), 1, [entry(weight, gamma=gamma)], random.normal(0, 1, (360, 3)), weight_bits=bits
    )
    layer, weights = only(network)
    integers = weights.astype(int)
    limit = 2 ** (bits - 1) - 1
    largest = np.abs(integers).max((1, 2, 3))
    assert largest.max() <= limit
    assert (largest * 2 >= limit).all()
    assert weights.dtype == matrix(network).dtype == (np.int16 if bits <= 16 else np.int32)
    # extra fractional bits are the same for every width: the threshold is 1
    exponents = weight_exponents(torch.from_numpy(weight), bits).numpy()
    np.testing.assert_allclose(layer.theta * np.ldexp(1.0, -exponents - THRESHOLD_EXTRA_BITS), 1.0, rtol=1e-15)
    assert THRESHOLD_EXTRA_BITS >= 16


@pytest.mark.parametrize("k", range(9))
@pytest.mark.parametrize("gamma", [1.0, -1.0, 0.5, -2.0])
def test_ties_round_up(k: int, gamma: float) -> None:
    """2^k x = n + 1/2 gives n + 1, 2^-16 less gives n: exactly, for every k."""
    network = single(1.0, k, gamma=gamma)
    for n in range(4):
        boundary = (n + 0.5) / 2**k / gamma
        assert activation(network, boundary) == n + 1
        assert activation(network, boundary - np.sign(gamma) * 2.0**-16) == n
    assert activation(network, -1 / gamma) == 0


def test_gamma_below_zero_comes_to_rest() -> None:
    """Without negating it, such a neuron fires forever."""
    network = single(0.5, 2, gamma=-1.0, beta=3.0, mean=0.25)
    for pixel in (-4.0, 0.0, 1.0, 6.0, 7.0):
        log = simulate(network, np.full((1, 1, 1, 1), pixel), timesteps=60, engine="dense")
        assert log.silent[0] >= 0
        assert log.counts["layer0"].item() == max(0, floor(4 * (3 - (pixel / 2 - 0.25)) + 0.5))


# --- constant channels ----------------------------------------------------------------------------------------------

BELOW_HALF = float(np.nextafter(0.5, 0))


@pytest.mark.parametrize("gamma", [0.0, -0.0])
@pytest.mark.parametrize(
    ("beta", "k", "expected"),
    [
        (0.5, 0, 1), (0.25, 0, 0), (0.25, 1, 1), (0.125, 2, 1), (0.75, 1, 2), (1.5, 0, 2), (2.5, 0, 3), (0.375, 2, 2),
        (BELOW_HALF, 0, 0), (BELOW_HALF / 2, 1, 0), (float(np.nextafter(1.5, 0)), 0, 1),
        (0.0, 3, 0), (-0.0, 0, 0), (-0.5, 0, 0), (-0.25, 1, 0), (-7.0, 2, 0), (-1e300, 2, 0), (5e-324, 0, 0),
        (100.0, 8, 25600), (1e-300, 4, 0),
    ],
)  # fmt: skip
def test_gamma_zero_is_a_constant(gamma: float, beta: float, k: int, expected: int) -> None:
    """Q_k(ReLU(beta)), whatever the input, mean and variance."""
    network = single(0.7, k, gamma=gamma, beta=beta, mean=3.0, var=2.0, eps=1e-5)
    for pixel in (-50.0, 0.0, 50.0):
        assert activation(network, pixel) == expected
    if expected <= 3:
        log = simulate(network, np.zeros((1, 1, 1, 1)), timesteps=5, engine="dense")
        assert log.counts["layer0"].item() == expected
        assert log.silent.tolist() == [expected]


@pytest.mark.parametrize("gamma", [1.0, -1.0])
def test_zero_weights_are_a_constant(gamma: float) -> None:
    """Batch norm of 0: beta - gamma mu / sigma."""
    network = single(0.0, 1, gamma=gamma, beta=2.0, mean=0.75, var=1.0)
    expected = floor(2 * (2.0 - gamma * 0.75) + 0.5)
    for pixel in (-9.0, 0.0, 9.0):
        assert activation(network, pixel) == expected


@pytest.mark.parametrize("gamma", [1e-12, -1e-12, 1e-30, -1e-30, 1e-100, 1e-300, 5e-324, -5e-324])
@pytest.mark.parametrize("beta", [0.3, 0.6, 0.0, -0.5, -0.25, -4.0, 1e-12])
def test_dead_channels(gamma: float, beta: float) -> None:
    """Weight decay takes gamma, weights and variance towards 0 together: Q_k(ReLU(beta)) is left, and no warning."""
    for weight, var, bits in product((1e-12, 0.1, 3.0, 1e-45, 5e-324), (1e-12, 0.0, 1.0), (2, 16, 24)):
        with np.errstate(invalid="raise"):
            network = single(weight, 1, bits, gamma=gamma, beta=beta, mean=1e-13, var=var, eps=1e-5)
        check_range(network, 5.0, 1000)
        for pixel in (-5.0, 0.0, 5.0):
            assert activation(network, pixel) == max(0, floor(2 * beta + 0.5))


@examples(100)
@given(
    exponents=st.tuples(*[st.integers(-60, 60)] * 4),
    signs=st.tuples(*[st.sampled_from([-1, 0, 1])] * 3),
    k=st.integers(0, 8),
    bits=st.integers(2, 24),
)
def test_out_of_all_proportion(exponents: tuple[int, ...], signs: tuple[int, ...], k: int, bits: int) -> None:
    """Either refused in one line, or within the bounds that potentials are proved with."""
    weight, gamma, beta, mean = (2.0**exponent for exponent in exponents)
    gamma, beta, mean = gamma * signs[0], beta * signs[1], mean * signs[2]
    try:
        network = single(weight, k, bits, gamma=gamma, beta=beta, mean=mean, eps=1e-5)
    except InputError as error:
        assert "layer 0 (1)" in str(error) and "out of proportion" in str(error)
        assert len(str(error).splitlines()) == 1
        return
    layer, _ = only(network)
    assert 1 <= layer.theta[0] <= LARGEST_THETA
    assert abs(int(layer.base[0])) <= LARGEST_BASE
    check_range(network, 1.0, 500)


def test_coarser_weights_stay_within_the_threshold() -> None:
    """A large threshold takes bits from the weights, but never more than leave a unit of 2^-36 of it."""
    for gamma in 2.0 ** -np.arange(0, 60):
        layer, weight = only(single(0.3, 0, 24, gamma=gamma))
        shift = fraction_bits(layer, entry([[[[0.3]]]], gamma=gamma))[0] - THRESHOLD_EXTRA_BITS
        error = abs(float(weight.item()) * 2.0**-shift - 0.3)
        assert error <= max(2.0**-25, 2.0**-36 / gamma)


# --- refusals -------------------------------------------------------------------------------------------------------


def assert_same(found: SpikingNetwork, expected: SpikingNetwork) -> None:
    """Every integer."""
    assert (found.input_shape, found.weight_bits) == (expected.input_shape, expected.weight_bits)
    for node, other in zip(found.nodes, expected.nodes, strict=True):
        assert isinstance(node, Neurons | Readout) and isinstance(other, Neurons | Readout)
        assert (node.name, node.shape, len(node.synapses)) == (other.name, other.shape, len(other.synapses))
        names = ("theta", "base") if isinstance(node, Neurons) else ("bias", "unit")
        pairs = [(getattr(node, name), getattr(other, name)) for name in names]
        for synapses, others in zip(node.synapses, other.synapses, strict=True):
            assert synapses.window == others.window
            pairs += [(synapses.weight, others.weight), (synapses.scale, others.scale)]
        for array, stored in pairs:
            np.testing.assert_array_equal(array, stored)


def two_layers() -> tuple[list[Entry], np.ndarray]:
    random = np.random.default_rng(0)
    layers = [entry(random.normal(0, 1, shape), var=0.5, eps=1e-5) for shape in ((3, 1, 3, 3), (4, 3, 4, 5))]
    return layers, random.normal(0, 1, (4, 10))


def convert(layers: list[Any], classifier: Any, **changes: Any) -> SpikingNetwork:
    arguments: dict[str, Any] = {"topology": "3C3-4", "input_shape": (1, 4, 5), "k": 1} | changes
    return SpikingNetwork.from_batchnorm(layers=layers, classifier=classifier, **arguments)


@pytest.mark.parametrize("name", ["weight", "gamma", "beta", "mean", "var", "eps"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite(name: str, value: float) -> None:
    layers, classifier = two_layers()
    array = np.array(layers[1][name], np.float64)
    array.flat[-1] = value
    layers[1][name] = array
    with OneLine(InputError, "layer 1 (4)", name, "not finite"):
        convert(layers, classifier)


@pytest.mark.parametrize("name", ["weight", "gamma", "beta", "mean", "var", "eps"])
def test_missing_shapes_and_types(name: str) -> None:
    layers, classifier = two_layers()
    right = layers[0][name]
    for wrong, word in (
        (np.zeros((2, 2)), "(2, 2)"),
        (np.zeros(7), "(7,)"),
        (None, "object"),
        ("gamma", "<U5"),
        (np.asarray(right) * 1j, "complex"),
        ([[1, 2], [3]], "not an array"),
        (torch.ones(2, dtype=torch.complex64), "complex"),
    ):
        layers[0][name] = wrong
        with OneLine(InputError, "layer 0 (3C3)", name, word):
            convert(layers, classifier)
    del layers[0][name]
    with OneLine(InputError, "layer 0 (3C3)", f"'{name}'", "missing"):
        convert(layers, classifier)


@pytest.mark.parametrize(("var", "eps"), [(-0.5, 1e-5), (-1e-6, 1e-5), (0.0, 0.0), (1.0, -0.5), (1.0, -2.0)])
def test_variance_below_zero(var: float, eps: float) -> None:
    layers, classifier = two_layers()
    layers[1]["var"] = np.array([1.0, 1.0, var, 1.0])
    layers[1]["eps"] = eps
    with OneLine(InputError, "layer 1 (4)", "var"):
        convert(layers, classifier)


def test_wrong_networks() -> None:
    layers, classifier = two_layers()
    with OneLine(InputError, "1 layers", "3C3-4", "2"):
        convert(layers[:1], classifier)
    with OneLine(InputError, "3 layers", "2"):
        convert([*layers, layers[1]], classifier)
    with OneLine(InputError, "3D3"):
        convert(layers, classifier, topology="3D3-4")
    with OneLine(InputError, "layer 0 (3C3)", "(3, 1, 3, 3)", "(3, 2, 3, 3)"):
        convert(layers, classifier, input_shape=(2, 4, 5))
    with OneLine(InputError, "input_shape", "(1, 4, 6)"):
        convert(layers, classifier, topology=parse_topology("3C3-4", (1, 4, 5)), input_shape=(1, 4, 6))
    for k in (-1, 9):
        with OneLine(InputError, "k is", str(k), "0 to 8"):
            convert(layers, classifier, k=k)
    for wrong in (1.5, "1", None):
        with OneLine(InputError, "k is", "whole number"):
            convert(layers, classifier, k=wrong)
    for bits in (1, 25, 0):
        with OneLine(InputError, "weight_bits", str(bits), "2 to 24"):
            convert(layers, classifier, weight_bits=bits)


@pytest.mark.parametrize("shape", [(1, 6.5, 5), "145", (1, 4), (1, 4, 5, 6), None, 4, (1, "4", 5), (1, None, 5)])
def test_wrong_input_shapes(shape: Any) -> None:
    layers, classifier = two_layers()
    with OneLine(InputError, "input_shape", "(channels, height, width)"):
        convert(layers, classifier, input_shape=shape)


def test_a_bias_in_front_of_batch_norm_counts() -> None:
    """b before batch norm is a mean smaller by b; another key is refused."""
    layers, classifier = two_layers()
    bias = [np.linspace(1, 3, len(layer["gamma"])) for layer in layers]
    moved = [layer | {"mean": layer["mean"] - b} for layer, b in zip(layers, bias, strict=True)]
    biased = [layer | {"bias": b} for layer, b in zip(layers, bias, strict=True)]
    assert_same(convert(biased, classifier), convert(moved, classifier))
    layers[1]["gama"] = layers[1]["gamma"]
    with OneLine(InputError, "layer 1 (4)", "'gama'", "bias"):
        convert(layers, classifier)


@pytest.mark.parametrize(
    ("classifier", "word"),
    [
        (np.zeros((10, 4)), "(10, 4), expected (4 features, classes), transpose it"),
        (np.zeros((5, 10)), "(5, 10)"),
        (np.zeros(4), "(4,)"),
        (np.float64(3), "()"),
        (np.zeros((4, 0)), "(4, 0)"),
        (np.full((4, 10), np.nan), "not finite"),
        (np.full((4, 10), "x"), "<U1"),
    ],
)
def test_wrong_classifiers(classifier: Any, word: str) -> None:
    layers, _ = two_layers()
    with OneLine(InputError, "classifier", word):
        convert(layers, classifier)


def test_too_large_a_threshold_is_refused() -> None:
    for values in ({"beta": 1e30}, {"gamma": 1e300}, {"mean": -1e200}, {"beta": 1e308}):
        with OneLine(InputError, "layer 0 (1)", "channel 0", "out of proportion"):
            single(1.0, 2, 16, **values)


def test_integers_of_any_type_and_tensors() -> None:
    """As read from a file: numpy's integers, lists, tensors that require gradients; and it can be saved."""
    layers, classifier = two_layers()
    expected = convert(layers, classifier)
    tensors = [{name: torch.tensor(value, requires_grad=True) for name, value in layer.items()} for layer in layers]
    lists = [{name: np.asarray(value).tolist() for name, value in layer.items()} for layer in layers]
    for variant in (tensors, lists):
        found = convert(variant, torch.tensor(classifier), k=np.int64(1), input_shape=np.array([1, 4, 5]))
        assert_same(found, expected)
        assert found.origin == expected.origin == {"topology": "3C3-4", "k": 1}
        assert type(found.origin["k"]) is int


# --- the classifier -------------------------------------------------------------------------------------------------


def test_classifier_orientation_and_order() -> None:
    """(features, classes), features in channel-major order: each class looks at one neuron of one channel."""
    shape = (2, 2, 3)
    weight = np.eye(2)[:, :, None, None]
    classifier = np.eye(12)[:, ::-1]  # feature i speaks for class 11 - i
    network = SpikingNetwork.from_batchnorm("2C1", shape, 2, [entry(weight)], classifier)
    for channel, row, column in np.ndindex(*shape):
        image = np.zeros((1, *shape))
        image[0, channel, row, column] = 1.0
        feature = (channel * 2 + row) * 3 + column
        log = simulate(network, image, timesteps=10, engine="dense")
        assert log.predictions.tolist() == [11 - feature]
        assert network.activations(image)["classifier"].argmax(1).item() == 11 - feature


def test_one_scale_for_all_classes() -> None:
    classifier = np.array([[1.0, 0.5, 0.25, 0.001]])
    network = SpikingNetwork.from_batchnorm("1", (1, 1, 1), 0, [entry([[[[1.0]]]])], classifier, weight_bits=8)
    assert matrix(network).ravel().tolist() == [64, 32, 16, 0]
    assert network.readout.unit == 2.0**-6


# --- from a torch network -------------------------------------------------------------------------------------------


def random_network(text: str, shape: tuple[int, int, int], k: int, padding: str, bits: int, seed: int) -> Network:
    """Batch norm as after training: statistics of its data, both signs of gamma, a dead and a constant channel."""
    generator = torch.Generator().manual_seed(seed)
    network = Network(parse_topology(text, shape, padding, classes=10), k, bits, seed)
    with torch.no_grad():
        for block in network.blocks:
            norm: Any = block.norm
            weight: Any = block.weight
            norm.momentum = 1.0
            count = len(norm.weight)
            weight.copy_(torch.randn(weight.shape, generator=generator) / weight[0].numel() ** 0.5)
            signs = torch.where(torch.rand(count, generator=generator) < 0.3, -1.0, 1.0)
            norm.weight.copy_(signs * (0.7 + torch.rand(count, generator=generator)))
            norm.bias.copy_(torch.randn(count, generator=generator) * 0.3)
        network.classifier.copy_(torch.randn(network.classifier.shape, generator=generator))
        network.train()(torch.randn((200, *shape), generator=generator))
        for block in network.blocks:
            norm, weight = block.norm, block.weight
            norm.weight[0], norm.weight[1] = 0.0, 1e-12
            weight[1] *= 1e-12
            norm.running_mean[1], norm.running_var[1] = 0.0, 1e-20
    return network.eval()


@pytest.mark.parametrize(
    ("text", "shape", "padding"),
    [("12C3-P2-16C3-P2-20", (2, 8, 8), "same"), ("8C5-P2-8C4-24", (1, 14, 13), "valid"), ("40-30", (1, 6, 6), "same")],
)
@pytest.mark.parametrize("k", [0, 1, 2])
@pytest.mark.parametrize("bits", [8, 16, 24])
def test_from_network(text: str, shape: tuple[int, int, int], padding: str, k: int, bits: int) -> None:
    """The integers of from_batchnorm on the same state; the float32 net predicts what the integer ANN does."""
    network = random_network(text, shape, k, padding, bits, seed=k)
    converted = from_network(network, {"net": "random"})
    layers = []
    for block in network.blocks:
        norm: Any = block.norm
        tensors = {"weight": block.weight, "gamma": norm.weight, "beta": norm.bias}
        tensors |= {"mean": norm.running_mean, "var": norm.running_var}
        layers.append({**tensors, "eps": norm.eps})
    same = SpikingNetwork.from_batchnorm(text, shape, k, layers, network.classifier.T, padding, bits)  # type: ignore[arg-type]
    assert dict(converted.origin) == {"topology": text, "k": k, "net": "random"}
    assert_same(converted, same)
    for block, population in zip(network.blocks, converted.populations, strict=True):
        # the very integers of the forward pass, in every channel that is alive
        weight: Any = block.weight
        exponents = weight_exponents(weight, bits)
        integers = torch.round(weight * 2.0 ** exponents[:, None, None, None])
        norm = block.norm
        integers *= torch.where(norm.weight < 0, -1, 1)[:, None, None, None]
        alive = (norm.weight.abs() > 1e-6).numpy()
        np.testing.assert_array_equal(population.synapses[0].weight[alive], integers.detach().numpy()[alive])  # type: ignore[index]

    images = round_images(torch.randn((300, *shape), generator=torch.Generator().manual_seed(1)))
    *activations, logits = converted.activations(images.numpy()).values()
    floating = predict(network, images).numpy()
    assert (floating != logits.argmax(1)).sum() <= 3  # rounding of float32 at ties
    assert len(np.unique(logits.argmax(1))) > 2
    x = images
    with torch.inference_mode():
        for block, exact in zip(network.blocks, activations, strict=True):
            x = block(x)
            assert ((x * 2**k).numpy() != exact).mean() < 1e-3
        # the unit of the logits: a random network's are not all small
        np.testing.assert_allclose(logits * converted.readout.unit, network(images).numpy(), rtol=1e-2, atol=0.1)


def test_full_precision_has_no_counterpart() -> None:
    with OneLine(InputError, "full-precision"):
        from_network(Network(parse_topology("4", (1, 2, 2)), None), {})


def test_diverged_training() -> None:
    network = random_network("4", (1, 2, 2), 1, "same", 16, 0)
    with torch.no_grad():
        network.classifier[0, 0] = torch.nan
    with OneLine(InputError, "classifier", "not finite"):
        from_network(network, {})
