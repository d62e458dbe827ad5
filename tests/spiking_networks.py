"""Random spiking networks, and a simulator that shares no line with the package's: loops over exact rationals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from negspike import SpikingNetwork
from negspike.spiking.nodes import INPUT, Neurons, Node, Readout, Synapses, Window
from negspike.training.topology import Layer, Shape, parse_topology


def examples(count: int) -> settings:
    """The same examples on every machine, so that a failure can be repeated."""
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
    )


@contextmanager
def constants(module: ModuleType, **values: Any) -> Iterator[None]:
    """Other constants of an engine's module."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setattr(module, name, value)
        yield


@dataclass
class Case:
    """What :meth:`negspike.SpikingNetwork.from_batchnorm` takes, and images."""

    topology: str
    shape: Shape
    padding: str
    k: int
    weight_bits: int
    layers: list[dict[str, Any]]
    classifier: np.ndarray
    images: np.ndarray
    labels: np.ndarray
    timesteps: int

    @property
    def geometry(self) -> tuple[Layer, ...]:
        return parse_topology(self.topology, self.shape, self.padding, classes=self.classifier.shape[1]).layers

    def network(self) -> SpikingNetwork:
        return SpikingNetwork.from_batchnorm(
            self.topology, self.shape, self.k, self.layers, self.classifier, self.padding, self.weight_bits
        )


ODD_GAMMAS = [0.0, -0.0, 1e-30, -1e-30, 5e-324, -5e-324, 1e-12, -1e-12, 1e-5, 3e-310]


@st.composite
def cases(
    draw: st.DrawFn,
    largest_side: int = 7,
    largest_width: int = 5,
    depth: int = 5,
    largest_k: int = 4,
    images: int = 6,
    timesteps: int = 60,
    bits: tuple[int, int] = (2, 24),
) -> Case:
    """Random topology, parameters and images. On a grid, ties between potentials and thresholds are frequent."""
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, largest_side)), draw(st.integers(1, largest_side)))
    padding = draw(st.sampled_from(["same", "valid"]))
    tokens: list[str] = []
    image = shape
    for _ in range(draw(st.integers(1, depth))):
        side = min(image[1:])
        width = draw(st.integers(1, largest_width))
        kinds = [f"{width}"]
        if not (tokens and tokens[-1].isdigit()):
            kinds += [f"{width}C{size}" for size in range(1, 6) if padding == "same" or size <= side]
            kinds += [f"P{size}" for size in (2, 3) if size <= side]
        tokens.append(draw(st.sampled_from(kinds)))
        image = parse_topology("-".join(tokens), shape, padding).layers[-1].out_shape
    topology = "-".join(tokens)
    k = draw(st.integers(0, largest_k))
    weight_bits = draw(st.integers(*bits))
    grid = draw(st.booleans())
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    odd = draw(
        st.lists(st.tuples(st.integers(0, depth - 1), st.integers(0, 4), st.sampled_from(ODD_GAMMAS)), max_size=3)
    )
    classes = draw(st.integers(1, 4))

    layers: list[dict[str, Any]] = []
    for geometry in parse_topology(topology, shape, padding, classes=classes).layers:
        outputs, *rest = geometry.weight_shape
        weight = random.normal(0, 1 / np.sqrt(np.prod(rest)), geometry.weight_shape)
        entry: dict[str, Any] = {
            "gamma": random.uniform(0.3, 2, outputs) * random.choice([-1, 1, 1], outputs),
            "beta": random.normal(0, 0.5, outputs),
            "mean": random.normal(0, 0.5, outputs),
            "var": random.uniform(0.2, 1.5, outputs),
            "eps": 1e-5,
        }
        if grid:
            weight = np.round(weight * 8) / 8
            entry["gamma"] = np.sign(entry["gamma"]) * 2.0 ** random.integers(-1, 2, outputs)
            entry["beta"], entry["mean"] = np.round(entry["beta"] * 4) / 4, np.round(entry["mean"] * 4) / 4
            entry["var"], entry["eps"] = np.ones(outputs), 0.0
        if random.random() < 0.2:
            weight[random.integers(outputs)] = 0
        layers.append({"weight": weight} | entry)
    for number, channel, gamma in odd:
        parameters = layers[number % len(layers)]["gamma"]
        parameters[channel % len(parameters)] = gamma

    kinds = draw(st.lists(st.sampled_from(["noise", "constant", "zero", "large"]), min_size=1, max_size=images))
    pictures = np.zeros((len(kinds), *shape))
    for number, kind in enumerate(kinds):
        noise = random.normal(0, 1, shape)
        flat = np.full(shape, noise.flat[0])
        pictures[number] = {"noise": noise, "constant": flat, "zero": 0 * flat, "large": 20 * noise}[kind]
    if grid:
        pictures = np.round(pictures * 4) / 4
    classifier = np.round(random.normal(0, 1, (int(np.prod(image)), classes)) * 4) / 4
    labels = random.integers(0, classes, len(kinds))
    return Case(
        *(topology, shape, padding, k, weight_bits, layers, classifier, pictures, labels),
        draw(st.integers(1, timesteps)),
    )


def integer_network(
    topology: str,
    shape: Shape,
    weights: list[Any],
    thetas: list[Any],
    bases: list[Any],
    classifier: Any,
    k: int = 0,
    weight_bits: int = 24,
    padding: str = "same",
) -> SpikingNetwork:
    """A network from its integers: thresholds and bases in units of 2^-16 of a weight; every exponent is 0."""
    matrix = np.asarray(classifier, np.int32)
    parsed = parse_topology(topology, shape, padding, classes=len(matrix))
    nodes: list[Node] = []
    for number, geometry in enumerate(parsed.layers):
        outputs = geometry.weight_shape[0]
        weight = np.asarray(weights[number], np.int32).reshape(geometry.weight_shape)
        window = Window(geometry.kernel, (geometry.stride, geometry.stride), geometry.padding)
        scale = np.full(outputs, 1 << (16 if number else k), np.int64)
        synapses = Synapses(nodes[-1].name if nodes else INPUT, window, scale, weight)
        theta, base = (
            np.broadcast_to(np.asarray(values[number], np.int64), (outputs,)).copy() for values in (thetas, bases)
        )
        nodes.append(Neurons(f"layer{number}", geometry.out_shape, (synapses,), theta, base, step=2.0**-k))
    last = parsed.layers[-1].out_shape
    ones = np.ones(len(matrix), np.int64)
    synapses = Synapses(nodes[-1].name, Window(last[1:]), ones, matrix.reshape(-1, *last))
    nodes.append(Readout("classifier", (len(matrix), 1, 1), (synapses,), 0 * ones))
    return SpikingNetwork(shape, tuple(nodes), weight_bits, {"k": k})


@dataclass
class NaiveResult:
    """Of one image: per step predictions, spikes and operations, and the counts at the end."""

    predictions: list[int]
    positive: list[list[int]]
    negative: list[list[int]]
    sops: list[int]
    counts: list[list[int]]


Connections = list[list[tuple[int, Fraction]]]


def synapses(source: Shape, target: Shape, window: Window, weight: list[Any]) -> Connections:
    """For every output neuron the input neurons it is connected with, and the weights."""
    inputs, height, width = source
    outputs, out_height, out_width = target
    result: Connections = []
    for o in range(outputs):
        for y in range(out_height):
            for x in range(out_width):
                mine = []
                for i in range(inputs):
                    for a in range(window.kernel[0]):
                        for b in range(window.kernel[1]):
                            row = y * window.stride[0] + a - window.padding[0][0]
                            column = x * window.stride[1] + b - window.padding[1][0]
                            if 0 <= row < height and 0 <= column < width:
                                mine.append(((i * height + row) * width + column, weight[o][i][a][b]))
                result.append(mine)
    return result


def naive_simulation(network: SpikingNetwork, image: np.ndarray, timesteps: int) -> NaiveResult:
    """The dynamics of docs/exactness.md word by word, over the real numbers that the integers stand for."""
    nets, thetas, bases = [], [], []
    for population in network.populations:
        (one,), area = population.synapses, population.shape[1] * population.shape[2]
        assert one.weight is not None
        # in units of a weight; the image is counted in its own 2^-16
        scales = [Fraction(int(scale)) for scale in one.scale]
        weight = [
            [[[w * s for w in row] for row in m] for m in o] for o, s in zip(one.weight.tolist(), scales, strict=True)
        ]
        nets.append(synapses(network.shapes[one.source], population.shape, one.window, weight))
        thetas.append([int(value) for value in population.theta for _ in range(area)])
        bases.append([int(value) for value in population.base for _ in range(area)])
    z = [[Fraction(0)] * len(net) for net in nets]
    n = [[0] * len(net) for net in nets]
    result = NaiveResult([], [], [], [], n)
    encoded = [Fraction(round(Fraction(value) * 2**16)) for value in image.ravel().tolist()]
    readout = network.readout.synapses[0].weight
    assert readout is not None
    classifier = readout.reshape(network.classes, -1)
    for t in range(timesteps):
        spikes: list[Any] = encoded if t == 0 else [0] * len(encoded)
        sops = 0
        result.positive.append([])
        result.negative.append([])
        for number, net in enumerate(nets):
            emitted = []
            for neuron, mine in enumerate(net):
                for source, amount in mine:
                    if spikes[source]:
                        z[number][neuron] += amount * spikes[source]
                        sops += number > 0
                theta, base = thetas[number][neuron], bases[number][neuron]
                spike = 0
                if z[number][neuron] >= base + (n[number][neuron] + 1) * theta:
                    spike = 1
                elif n[number][neuron] > 0 and z[number][neuron] < base + n[number][neuron] * theta:
                    spike = -1
                n[number][neuron] += spike
                emitted.append(spike)
            spikes = emitted
            result.positive[-1].append(spikes.count(1))
            result.negative[-1].append(spikes.count(-1))
        sops += sum(map(abs, spikes)) * network.classes
        logits = [sum(int(w) * c for w, c in zip(row, n[-1], strict=True)) for row in classifier]
        result.predictions.append(logits.index(max(logits)))
        result.sops.append(sops)
    return result


def quantized_activation(z: Fraction, gamma: float, beta: float, mean: float, sigma: Fraction, k: int) -> int:
    """2^k Q_k(ReLU(batch norm of 2^-k z)), exactly; z is counted in spikes."""
    normalized = Fraction(gamma) * (z / 2**k - Fraction(mean)) / sigma + Fraction(beta)
    count: int = floor(2**k * max(normalized, Fraction(0)) + Fraction(1, 2))
    return count
