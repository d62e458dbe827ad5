"""A simulator of loops over neurons in Python's own integers, which shares no line with the package's.

Every connection of every neuron is written out: (input neuron, output neuron, weight times scale). What a spike costs
is then how many connections it has, and nothing can overflow or round.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product

import numpy as np

from negspike import SpikingNetwork
from negspike.spiking.nodes import MaxPool, Neurons, Readout, Shape, Sum, Synapses, Window

# For each neuron of the source: the neurons of the target that hear it, and how strongly.
Outgoing = list[list[tuple[int, int]]]


@dataclass
class Result:
    """Of one image: numbers of each step, and the counts at the end, neuron by neuron."""

    predictions: list[int] = field(default_factory=list)
    positive: list[list[int]] = field(default_factory=list)
    negative: list[list[int]] = field(default_factory=list)
    # one for each node that synapses lead to
    layer_sops: list[list[int]] = field(default_factory=list)
    relays: list[int] = field(default_factory=list)
    logits: list[int] = field(default_factory=list)
    counts: dict[str, list[int]] = field(default_factory=dict)
    # what each node emits in each step, and what the potentials of all populations are after it
    emitted: list[dict[str, list[int]]] = field(default_factory=list)
    residuals: list[list[int]] = field(default_factory=list)
    # the largest absolute sum of what each node has heard so far, in any step, and of what it emitted in one
    largest: dict[str, int] = field(default_factory=dict)
    # the largest absolute z - base - n theta of each population, after a step
    largest_residual: dict[str, int] = field(default_factory=dict)

    @property
    def sops(self) -> list[int]:
        """Of all layers."""
        return [sum(layers) for layers in self.layer_sops]

    @property
    def silent(self) -> int:
        """The first step from which on nothing spikes, -1 if the last one had a spike."""
        busy = [t for t, spikes in enumerate(self.positive) if sum(spikes) + sum(self.negative[t])]
        first = busy[-1] + 1 if busy else 0
        return -1 if first == len(self.positive) else first


def taps(window: Window, y: int, x: int, shape: Shape) -> list[tuple[int, int, int, int]]:
    """(tap row, tap column, input row, input column) of the inputs that the output at (y, x) sees."""
    found = []
    for a, b in product(range(window.kernel[0]), range(window.kernel[1])):
        row = y * window.stride[0] - window.padding[0][0] + a * window.dilation[0]
        column = x * window.stride[1] - window.padding[1][0] + b * window.dilation[1]
        if 0 <= row < shape[1] and 0 <= column < shape[2]:
            found.append((a, b, row, column))
    return found


def outgoing(synapses: Synapses, source: Shape, target: Shape) -> Outgoing:
    """All connections of one synapse, those of weight 0 too."""
    result: Outgoing = [[] for _ in range(source[0] * source[1] * source[2])]
    scales = synapses.scale.tolist()
    weight = None if synapses.weight is None else synapses.weight.tolist()
    names = list(range(source[0])) if synapses.channels is None else synapses.channels.tolist()
    goals = list(range(target[0])) if synapses.targets is None else synapses.targets.tolist()
    for y, x in product(range(target[1]), range(target[2])):
        for a, b, row, column in taps(synapses.window, y, x, source):
            for o, scale in enumerate(scales):
                to = (goals[o] * target[1] + y) * target[2] + x
                if weight is None:
                    heard = [(o, 1)]
                else:
                    mine = weight[o]
                    first = o // (len(scales) // synapses.groups) * len(mine)
                    shared = len(mine[0]) == len(mine[0][0]) == 1
                    heard = [(first + i, mine[i][0][0] if shared else mine[i][a][b]) for i in range(len(mine))]
                for i, strength in heard:
                    result[(names[i] * source[1] + row) * source[2] + column].append((to, strength * scale))
    return result


class Oracle:
    """Works out all connections of a network once.

    Args:
        network: any that is valid.
    """

    def __init__(self, network: SpikingNetwork) -> None:
        self.network = network
        shapes: dict[str, Shape] = {"input": network.input_shape}
        self.connections: dict[str, list[tuple[str, Outgoing]]] = {}
        self.windows: dict[str, list[list[int]]] = {}
        self.kinds: dict[str, type] = {"input": int}
        for node in network.nodes:
            self.kinds[node.name], shapes[node.name] = type(node), node.shape
            if isinstance(node, MaxPool):
                self.windows[node.name] = self._windows(node, shapes[node.source])
            else:
                self.connections[node.name] = [
                    (one.source, outgoing(one, shapes[one.source], node.shape)) for one in node.synapses
                ]

    @staticmethod
    def _windows(node: MaxPool, source: Shape) -> list[list[int]]:
        return [
            [(c * source[1] + row) * source[2] + column for _, _, row, column in taps(node.window, y, x, source)]
            for c, y, x in product(*map(range, node.shape))
        ]

    @staticmethod
    def _channels(node: Neurons) -> list[tuple[int, int]]:
        area = node.shape[1] * node.shape[2]
        return [(t, b) for t, b in zip(node.theta.tolist(), node.base.tolist(), strict=True) for _ in range(area)]

    @staticmethod
    def pixels(image: np.ndarray) -> list[int]:
        """A picture with 16 fractional bits, half to even."""
        return [round(Fraction(value) * 2**16) for value in image.ravel().tolist()]

    def simulate(self, image: np.ndarray, timesteps: int) -> Result:
        """The rule of docs/exactness.md word by word, for one picture (channels, height, width)."""
        nodes, result = self.network.nodes, Result()
        sizes = {node.name: node.shape[0] * node.shape[1] * node.shape[2] for node in nodes}
        n = {name: [0] * size for name, size in sizes.items()}
        z = {name: [0] * size for name, size in sizes.items()}
        parameters = {node.name: self._channels(node) for node in nodes if isinstance(node, Neurons)}
        for t in range(timesteps):
            emitted = {"input": self.pixels(image) if t == 0 else []}
            left: list[int] = []
            positive, negative, sops, relays = [], [], dict.fromkeys(self.connections, 0), 0
            for node in nodes:
                name, mine = node.name, n[node.name]
                if isinstance(node, MaxPool):
                    changes = [max(n[node.source][i] for i in window) for window in self.windows[name]]
                    emitted[name] = [new - old for new, old in zip(changes, mine, strict=True)]
                    n[name] = changes
                    assert set(emitted[name]) <= {-1, 0, 1}
                    continue
                arrived = [0] * sizes[name]
                for source, ways in self.connections[name]:
                    for i, spike in enumerate(emitted[source]):
                        if spike:
                            for to, strength in ways[i]:
                                arrived[to] += strength * spike
                            if self.kinds[source] in (Neurons, MaxPool):
                                sops[name] += len(ways[i])
                            elif self.kinds[source] is Sum and isinstance(node, Sum):
                                relays += len(ways[i])
                z[name] = [old + new for old, new in zip(z[name], arrived, strict=True)]
                result.largest[name] = max(result.largest.get(name, 0), *map(abs, z[name] + arrived))
                if isinstance(node, Neurons):
                    emitted[name] = [
                        self._spike(node, z[name][i], count, *parameters[name][i]) for i, count in enumerate(mine)
                    ]
                    n[name] = [count + spike for count, spike in zip(mine, emitted[name], strict=True)]
                    residuals = [
                        one - base - count * theta
                        for one, count, (theta, base) in zip(z[name], n[name], parameters[name], strict=True)
                    ]
                    result.largest_residual[name] = max(result.largest_residual.get(name, 0), *map(abs, residuals))
                    left += residuals
                    positive.append(emitted[name].count(1))
                    negative.append(emitted[name].count(-1))
                else:
                    emitted[name] = arrived
            result.emitted.append(emitted)
            result.residuals.append(left)
            result.positive.append(positive)
            result.negative.append(negative)
            result.layer_sops.append(list(sops.values()))
            result.relays.append(relays)
            readout = nodes[-1]
            assert isinstance(readout, Readout)
            result.logits = [b + total for b, total in zip(readout.bias.tolist(), z[readout.name], strict=True)]
            result.predictions.append(result.logits.index(max(result.logits)))
        result.counts = {name: n[name] for name in parameters}
        return result

    @staticmethod
    def _spike(node: Neurons, z: int, n: int, theta: int, base: int) -> int:
        if z >= base + (n + 1) * theta and (node.high is None or n < node.high):
            return 1
        if z < base + n * theta and (node.low is None or n > node.low):
            return -1
        return 0

    def activations(self, image: np.ndarray) -> dict[str, list[int]]:
        """clip(floor((z - base) / theta), low, high) of every population, and the logits under the readout's name."""
        values, result = {"input": self.pixels(image)}, {}
        for node in self.network.nodes:
            if isinstance(node, MaxPool):
                values[node.name] = [max(values[node.source][i] for i in window) for window in self.windows[node.name]]
                continue
            total = [0] * (node.shape[0] * node.shape[1] * node.shape[2])
            for source, ways in self.connections[node.name]:
                for value, way in zip(values[source], ways, strict=True):
                    for to, strength in way:
                        total[to] += strength * value
            if isinstance(node, Neurons):
                total = [(z - base) // theta for z, (theta, base) in zip(total, self._channels(node), strict=True)]
                total = [n if node.low is None else max(n, node.low) for n in total]
                total = [n if node.high is None else min(n, node.high) for n in total]
                result[node.name] = total
            elif isinstance(node, Readout):
                result[node.name] = [b + z for b, z in zip(node.bias.tolist(), total, strict=True)]
            values[node.name] = total
        return result
