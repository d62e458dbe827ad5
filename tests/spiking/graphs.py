"""Spiking networks for tests: random graphs of integers, random chains with batch norm, and chains of one's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from negspike import SpikingNetwork
from negspike.spiking.nodes import INPUT, MaxPool, Neurons, Node, Readout, Shape, Sum, Synapses, Window
from negspike.training.topology import Layer, parse_topology

ENGINES = ["reference", "dense", "event"]


def examples(count: int) -> settings:
    """The same on every machine, so that a failure can be repeated; a quarter of them in ``make test-fast``."""
    return settings(
        max_examples=-(-count // 4) if "FEWER_EXAMPLES" in os.environ else count,
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


# --- graphs ---------------------------------------------------------------------------------------------------------

BOUNDS = [(0, None), (0, None), (0, 1), (0, 3), (0, 15), (-4, 3), (-1, 1), (None, None), (None, 0), (-2, None), (0, 0)]
# One unit of a drawn network in which ties are frequent: a quarter of a pixel's step.
GRID = 1 << 14
# What the drawn numbers may come to, below the 63 bits of potentials and the 53 of the logits' sums.
MOST_POTENTIAL, MOST_LOGIT = 1 << 58, 1 << 50
MOST_STEPS = 40
# Counts of neurons without a bound, at rest.
LARGEST_REST = 10_000


@dataclass
class Graph:
    """A network and what to run it on."""

    network: SpikingNetwork
    images: np.ndarray
    labels: np.ndarray
    timesteps: int
    features: set[str]


@dataclass
class _Builder:
    """Draws node after node: its kind and geometry by hypothesis, so that it shrinks, its numbers from one seed."""

    draw: st.DrawFn
    random: np.random.Generator
    grid: bool
    bits: int
    image: Shape
    widths: tuple[int, ...]
    nodes: list[Node] = field(default_factory=list)
    features: set[str] = field(default_factory=set)
    shapes: dict[str, Shape] = field(default_factory=dict)
    # largest absolute number that each node can have emitted in all in a run, and at rest, and a usual one
    most: dict[str, int] = field(default_factory=dict)
    rest: dict[str, int] = field(default_factory=dict)
    usual: dict[str, int] = field(default_factory=dict)
    unheard: list[str] = field(default_factory=list)
    kinds: dict[str, type] = field(default_factory=dict)

    def add(self, node: Node, *, most: int, rest: int, usual: int) -> None:
        self.nodes.append(node)
        self._register(node.name, node.shape, type(node), most=most, rest=rest, usual=usual)

    def _register(self, name: str, shape: Shape, kind: type, *, most: int, rest: int, usual: int) -> None:
        self.shapes[name], self.kinds[name] = shape, kind
        self.most[name], self.rest[name], self.usual[name] = max(most, 1), max(rest, 1), max(usual, 1)
        self.unheard.append(name)

    def start(self, largest: int) -> None:
        self._register(INPUT, self.image, int, most=largest, rest=largest, usual=min(largest, 1 << 16))

    def pick(self, kinds: tuple[type, ...]) -> str | None:
        """A source, more often one that nobody listens to yet."""
        names = [name for name, kind in self.kinds.items() if kind in kinds]
        if not names:
            return None
        fresh = [name for name in self.unheard if name in names] or names[-1:]
        name: str = self.draw(st.sampled_from(names if self.draw(st.integers(0, 3)) == 3 else fresh[::-1]))
        return name

    def heard(self, name: str) -> None:
        if name in self.unheard:
            self.unheard.remove(name)

    def axis(self, size: int, out: int, *, padded: bool = True) -> tuple[int, int, tuple[int, int], int]:
        """Kernel, stride, padding and dilation of one axis that make ``out`` of ``size``."""
        kernel = self.draw(st.integers(1, 3))
        stride = self.draw(st.integers(1, 3)) if out > 1 else 1
        dilation = self.draw(st.integers(1, 2)) if kernel > 1 else 1
        rest = self.draw(st.integers(0, stride - 1))
        missing = dilation * (kernel - 1) + 1 + stride * (out - 1) + rest - size
        if missing < 0:
            grown = -(missing // dilation)
            kernel, missing = kernel + grown, missing + grown * dilation
        if not padded and missing:
            kernel, stride, dilation, missing = size - out + 1, 1, 1, 0
        before = self.draw(st.integers(0, missing)) if missing else 0
        return kernel, stride, (before, missing - before), dilation

    def window(self, size: tuple[int, int], out: tuple[int, int]) -> Window:
        if size == out and self.draw(st.booleans()):
            return Window()
        ys, xs = (self.axis(size[i], out[i]) for i in (0, 1))
        window = Window((ys[0], xs[0]), (ys[1], xs[1]), (ys[2], xs[2]), (ys[3], xs[3]))
        self.features |= {name for name, given in (
            ("overlapping windows", ys[0] > ys[1] or xs[0] > xs[1]),
            ("dilation", window.dilation != (1, 1)),
            ("stride", window.stride != (1, 1)),
            ("asymmetric padding", any(a != b for a, b in window.padding)),
        ) if given}  # fmt: skip
        return window

    def out_size(self, source: str) -> tuple[int, int]:
        height, width = self.shapes[source][1:]
        odd = self.kinds[source] is not Sum  # which is read point by point
        sizes = [
            sorted({size, -(-size // 2), 1} | ({max(size - 1, 1), min(size + 1, 6)} if odd else set()))
            for size in (height, width)
        ]
        if self.draw(st.booleans()):
            return height, width
        return self.draw(st.sampled_from(sizes[0])), self.draw(st.sampled_from(sizes[1]))

    def pool_window(self, size: tuple[int, int], out: tuple[int, int]) -> Window | None:
        """One in which every window sees an input."""
        window = self.window(size, out)
        for axis in (0, 1):
            for output in range(out[axis]):
                start = output * window.stride[axis] - window.padding[axis][0]
                seen = [start + tap * window.dilation[axis] for tap in range(window.kernel[axis])]
                if not any(0 <= place < size[axis] for place in seen):
                    return None
        return window

    # --- synapses ---

    def synapses(self, source: str, target: Shape, *, concat: np.ndarray | None = None) -> Synapses | None:
        """From a source to a shape, None if that is impossible."""
        shape, random = self.shapes[source], self.random
        targets = concat
        if targets is None and self.draw(st.integers(0, 3)) == 0:
            targets = random.permutation(target[0])[: random.integers(1, target[0] + 1)].astype(np.int64)
        outputs = target[0] if targets is None else len(targets)
        if targets is not None:
            self.features.add("targets")
        if self.kinds[source] is Sum:
            window = self._stride(shape[1:], target[1:])
            weighted = False
            if window is None:
                return None
        else:
            window, weighted = self.window(shape[1:], target[1:]), self.draw(st.integers(0, 3)) > 0
        channels = None
        groups, weight = 1, None
        if weighted:
            # as many channels of the source as they come, in groups, or any of them
            groups = self.draw(st.sampled_from([g for g in range(1, outputs + 1) if outputs % g == 0]))
            inputs = shape[0]
            if shape[0] % groups or self.draw(st.integers(0, 3)) == 0:
                inputs = groups * self.draw(st.integers(1, 2))
                channels = random.integers(0, shape[0], inputs).astype(np.int64)
            weight = self._weight((outputs, inputs // groups), window)
            if groups > 1:
                self.features.add("depthwise" if groups == inputs == outputs else "groups")
        elif shape[0] != outputs or self.draw(st.integers(0, 3)) == 0:
            channels = random.integers(0, shape[0], outputs).astype(np.int64)
        if channels is not None:
            self.features.add("channels")
        if weight is None:
            self.features.add("identity" if window.kernel == (1, 1) else "sum pool")
        scale = self._scale(source, outputs, weight, window)
        self.heard(source)
        return Synapses(source, window, scale, weight, groups, channels, targets)

    def _stride(self, size: tuple[int, int], out: tuple[int, int]) -> Window | None:
        strides = [[s for s in range(1, 7) if (size[axis] - 1) // s + 1 == out[axis]] for axis in (0, 1)]
        if not all(strides):
            return None
        return Window(stride=(self.draw(st.sampled_from(strides[0])), self.draw(st.sampled_from(strides[1]))))

    def _weight(self, shape: tuple[int, int], window: Window) -> np.ndarray:
        shared = window.kernel != (1, 1) and self.draw(st.integers(0, 3)) == 0
        if shared:
            self.features.add("shared taps")
        limit = min(2, 2 ** (self.bits - 1) - 1) if self.grid else 2 ** (self.bits - 1) - 1
        full = (*shape, *((1, 1) if shared else window.kernel))
        weight = self.random.integers(-limit, limit + 1, full)
        if self.random.random() < 0.2:
            weight *= self.random.random(full) < 0.5
        return weight.astype(np.int16 if self.bits <= 16 else np.int32)

    def _scale(self, source: str, outputs: int, weight: np.ndarray | None, window: Window) -> np.ndarray:
        taps = prod(window.kernel)
        sums = taps if weight is None else taps * int(np.abs(weight.astype(np.int64)).sum((1, 2, 3)).max())
        room = max(MOST_POTENTIAL // 8 // max(sums * max(self.most[source], self.rest[source]), 1), 1)
        if self.grid:
            values = self.random.choice([-1, 1, 1, 2], outputs)
            values *= 1 if source == INPUT or self.usual[source] >= GRID else min(GRID, room)
        else:
            largest = min(1 << self.draw(st.sampled_from([0, 8, 16, 30])), room)
            values = self.random.integers(-largest, largest + 1, outputs)
            if self.random.random() < 0.5:
                values = np.full(outputs, largest)
        if self.random.random() < 0.1:
            values[self.random.integers(outputs)] = 0
        self.features |= {"negative scale"} if (values < 0).any() else set()
        self.features |= {"zero scale"} if (values == 0).any() else set()
        return values.astype(np.int64)

    def listeners(self, first: str, target: Shape) -> tuple[Synapses, ...]:
        """One to three synapses onto a shape: branches that are added, or parts that are concatenated."""
        more = self.draw(st.sampled_from([0, 0, 0, 1, 1, 2]))
        sources = [first] + [self.pick((int, Neurons, MaxPool, Sum)) or first for _ in range(more)]
        parts: list[np.ndarray | None] = [None] * len(sources)
        if 1 < len(sources) <= target[0] and self.draw(st.integers(0, 2)) == 0:
            cuts = np.sort(self.random.choice(np.arange(1, target[0]), len(sources) - 1, replace=False))
            parts = [part.astype(np.int64) for part in np.split(self.random.permutation(target[0]), cuts)]
            self.features.add("concat")
        found = [self.synapses(source, target, concat=part) for source, part in zip(sources, parts, strict=True)]
        return tuple(one for one in found if one is not None)

    # --- nodes ---

    def reach(self, synapses: tuple[Synapses, ...]) -> tuple[int, int, int]:
        """Largest absolute value of what arrives in a run and at rest, and a usual one."""
        sums = [(int(one.largest_sums.max()) * int(np.abs(one.scale).max()), one.source) for one in synapses]
        most, rest = (sum(size * values[source] for size, source in sums) for values in (self.most, self.rest))
        return most, rest, max(size * self.usual[source] for size, source in sums) // 4

    def neurons(self, name: str) -> bool:
        # Sums are worth their accumulators where several populations read them.
        sums = [name for name, kind in self.kinds.items() if kind is Sum]
        wanted: bool = self.draw(st.booleans())
        again = self.draw(st.sampled_from(sums)) if sums and wanted else None
        source = again or self.pick((int, Neurons, MaxPool, Sum)) or INPUT
        shape = (self.draw(st.sampled_from(self.widths)), *self.out_size(source))
        synapses = self.listeners(source, shape)
        if not synapses:
            return False
        random, channels = self.random, shape[0]
        usual = self.reach(synapses)[2]
        if self.grid:
            theta = random.integers(1, 5, channels) * GRID
            base = random.integers(-3, 4, channels) * (GRID // 2) + random.choice([-1, 0, 0, 0, 1], channels)
        else:
            level = min(max(usual // self.draw(st.sampled_from([16, 4, 64, 1])), 1), MOST_POTENTIAL // MOST_STEPS // 4)
            theta = random.integers(max(level // 2, 1), 2 * level + 1, channels)
            base = random.integers(-2 * level, level + 1, channels)
        if not self.grid and self.draw(st.integers(0, 9)) == 0:
            theta, base = np.full(channels, 1 << self.draw(st.sampled_from([0, 40, 50]))), base * 0
        synapses = self._residual(synapses, theta)
        self._note(synapses)
        low, high = self.draw(st.sampled_from(BOUNDS))
        rest = self.reach(synapses)[1] // int(theta.min()) + 10
        if rest > LARGEST_REST and (low is None or high is None):
            low, high = 0, 15
        self.features.add("any low" if low is None else "low below 0" if low else "low 0")
        self.features.add("unbounded" if high is None else "bounded")
        bounds = [MOST_STEPS if bound is None else min(abs(bound), MOST_STEPS) for bound in (low, high)]
        self.add(
            Neurons(name, shape, synapses, theta.astype(np.int64), base.astype(np.int64), low, high, 0.25),
            most=max(bounds),
            rest=rest if low is None or high is None else max(bounds),
            usual=min(max(bounds), 3),
        )
        return True

    def _residual(self, synapses: tuple[Synapses, ...], theta: np.ndarray) -> tuple[Synapses, ...]:
        """An identity among branches is as often a residual of equal steps: its scale is the threshold."""
        if len(synapses) < 2 or self.grid:
            return synapses
        made = []
        for one in synapses:
            plain = one.weight is None and one.window.is_point and self.kinds[one.source] in (Neurons, MaxPool)
            if plain and self.draw(st.booleans()):
                wanted = theta if one.targets is None else theta[one.targets]
                one = Synapses(one.source, one.window, wanted.astype(np.int64), None, 1, one.channels, one.targets)
            made.append(one)
        return tuple(made)

    def _note(self, synapses: tuple[Synapses, ...]) -> None:
        if len(synapses) > 1:
            kinds = {self.kinds[one.source] for one in synapses}
            self.features.add("branches")
            self.features |= {"image and spikes"} if int in kinds and kinds & {Neurons, MaxPool} else set()
            plain = any(one.weight is None and one.window.is_point for one in synapses)
            self.features |= {"residual"} if plain else set()

    def sum(self, name: str) -> bool:
        source = (self.draw(st.booleans()) and self.pick((Sum,))) or self.pick((int, Neurons, MaxPool, Sum)) or INPUT
        shape = (self.draw(st.sampled_from(self.widths)), *self.out_size(source))
        synapses = self.listeners(source, shape)
        most, rest, usual = self.reach(synapses) if synapses else (MOST_LOGIT, 0, 0)
        if max(most, rest) >= MOST_LOGIT:
            return False
        if any(self.kinds[one.source] is Sum for one in synapses):
            self.features.add("sum of sums")
        self.add(Sum(name, shape, synapses), most=most, rest=rest, usual=usual)
        return True

    def max_pool(self, name: str) -> bool:
        signed_counts = [node.name for node in self.nodes if isinstance(node, Neurons) and node.low != 0]
        wanted: bool = self.draw(st.booleans())
        chosen = self.draw(st.sampled_from(signed_counts)) if signed_counts and wanted else None
        source = chosen or self.pick((Neurons, MaxPool))
        if source is None:
            return False
        out = self.out_size(source)
        window = self.pool_window(self.shapes[source][1:], out)
        if window is None:
            return False
        population = next(node for node in self.nodes if node.name == source)
        signed = isinstance(population, Neurons) and population.low != 0
        self.features |= {"max pool", "max pool of signed counts" if signed else "max pool"}
        self.heard(source)
        shape = (self.shapes[source][0], *out)
        values = {"most": self.most[source], "rest": self.rest[source], "usual": self.usual[source]}
        self.add(MaxPool(name, shape, source, window), **values)
        return True

    def readout(self) -> None:
        classes = self.draw(st.integers(1, 4))
        shape = (classes, 1, 1)
        self.unheard = [name for name in self.unheard if name != INPUT] or self.unheard
        source = self.pick((int, Neurons, MaxPool, Sum)) or INPUT
        synapses = tuple(
            one
            for one in self.listeners(source, shape)
            if self.most[one.source] * int(one.largest_sums.max()) < MOST_LOGIT
        )
        while not synapses:
            names = [name for name, kind in self.kinds.items() if kind is not Sum]
            last = names[-1]
            window = Window(self.shapes[last][1:])
            weight = self.random.integers(-1, 2, (classes, self.shapes[last][0], *window.kernel)).astype(np.int16)
            synapses = (Synapses(last, window, np.ones(classes, np.int64), weight),)
        usual = self.reach(synapses)[2]
        bias = self.random.integers(-usual - 1, usual + 2, classes)
        if self.random.random() < 0.3:
            bias[:] = 0
        self.features |= {"one class"} if classes == 1 else set()
        self.nodes.append(Readout("logits", shape, synapses, bias.astype(np.int64), 0.5))


def pictures(
    draw: st.DrawFn, shape: Shape, random: np.random.Generator, *, images: int, grid: bool
) -> tuple[np.ndarray, int]:
    """(N, channels, height, width) floats of several kinds, and how many."""
    kinds = draw(st.lists(st.sampled_from(["noise", "constant", "zero", "large"]), min_size=1, max_size=images))
    result = np.zeros((len(kinds), *shape))
    for number, kind in enumerate(kinds):
        noise = random.normal(0, 1, shape)
        flat = np.full(shape, noise.flat[0])
        result[number] = {"noise": noise, "constant": flat, "zero": 0 * flat, "large": 20 * noise}[kind]
    return (np.round(result * 4) / 4 if grid else result), len(kinds)


@st.composite
def graphs(
    draw: st.DrawFn,
    images: int = 3,
    nodes: int = 6,
    widths: tuple[int, ...] = (1, 2, 3, 4),
    weight_bits: tuple[int, ...] = (2, 4, 8, 16, 17, 24),
) -> Graph:
    """Networks of up to so many nodes before the readout, with pictures. On a grid, ties are frequent.

    Args:
        images: at most.
        nodes: at most.
        widths: numbers of channels.
        weight_bits: one of them.
    """
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    grid = draw(st.booleans())
    bits = draw(st.sampled_from(weight_bits))
    builder = _Builder(draw, random, grid, bits, shape, widths)
    pixels, count = pictures(draw, shape, random, images=images, grid=grid)
    builder.start(int(np.abs(pixels).max() * 2**16) + 1)
    for number in range(max(draw(st.integers(1, nodes)), draw(st.integers(1, nodes)))):
        kind = draw(st.sampled_from(["neurons", "neurons", "neurons", "sum", "sum", "max_pool", "max_pool"]))
        if not getattr(builder, kind)(f"{kind}{number}"):
            builder.neurons(f"neurons{number}")
    builder.readout()
    network = SpikingNetwork(shape, tuple(builder.nodes), bits)
    for node in network.nodes:
        if isinstance(node, Sum) and sum(isinstance(one, Neurons) for one in network.listeners[node.name]) > 1:
            builder.features.add("a sum read by several")
    if shape[1] != shape[2]:
        builder.features.add("not square")
    labels = random.integers(0, network.classes, count)
    timesteps = draw(st.sampled_from([MOST_STEPS, MOST_STEPS, 10, 10, 3, 1]))
    return Graph(network, pixels, labels, timesteps, builder.features)


# --- chains ---------------------------------------------------------------------------------------------------------


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
    """Random topology, batch norm and pictures. On a grid, ties between potentials and thresholds are frequent."""
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
    pixels, count = pictures(draw, shape, random, images=images, grid=grid)
    classifier = np.round(random.normal(0, 1, (int(np.prod(image)), classes)) * 4) / 4
    labels = random.integers(0, classes, count)
    return Case(
        *(topology, shape, padding, k, weight_bits, layers, classifier, pixels, labels),
        draw(st.integers(1, timesteps)),
    )


def chain(
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
    """A network from its integers, layer0, layer1 and so on; thresholds and bases in units of 2^-16 of a weight."""
    matrix = np.asarray(classifier, np.int32)
    parsed = parse_topology(topology, shape, padding, classes=len(matrix))
    nodes: list[Node] = []
    for number, geometry in enumerate(parsed.layers):
        outputs = geometry.weight_shape[0]
        scale = np.full(outputs, 1 << (16 if number else k), np.int64)
        window = Window(geometry.kernel, (geometry.stride, geometry.stride), geometry.padding)
        weight = np.asarray(weights[number], np.int32).reshape(geometry.weight_shape)
        source = f"layer{number - 1}" if number else INPUT
        theta, base = (
            np.broadcast_to(np.asarray(values[number], np.int64), (outputs,)).copy() for values in (thetas, bases)
        )
        synapses = Synapses(source, window, scale, weight)
        nodes.append(Neurons(f"layer{number}", geometry.out_shape, (synapses,), theta, base, step=2.0**-k))
    classes, last = len(matrix), parsed.layers[-1].out_shape
    synapses = Synapses(nodes[-1].name, Window(last[1:]), np.ones(classes, np.int64), matrix.reshape(classes, *last))
    nodes.append(Readout("classifier", (classes, 1, 1), (synapses,), np.zeros(classes, np.int64)))
    return SpikingNetwork(shape, tuple(nodes), weight_bits)
