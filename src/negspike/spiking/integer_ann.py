"""The integer ANN: the activations of the quantised network in closed form, which every silent neuron must equal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import torch

from negspike.errors import InputError
from negspike.spiking.bounds import reach
from negspike.spiking.digits import DigitSum
from negspike.spiking.exact import exact_arithmetic
from negspike.spiking.floats import ExactSum
from negspike.spiking.joint import JointHistogram, join_histograms
from negspike.spiking.linear import settled_int64
from negspike.spiking.nodes import INPUT, MaxPool, Neurons, Readout, Sum, sources

if TYPE_CHECKING:
    from negspike.spiking.graph import SpikingNetwork

# Images that are computed together have about so many neurons in all, and a step of it so many sums, which stay in the
# caches until they are counts.
BATCH_NEURONS = 1 << 24
MOST_IMAGES = 64
SUMS_AT_ONCE = 1 << 18
# Below it a quotient of floats is off by less than one.
MOST_COUNT = 1 << 50


class IntegerAnn:
    """Computes all activations of a network at rest.

    Args:
        network: whose weights, thresholds and bounds it computes with.
    """

    def __init__(self, network: SpikingNetwork) -> None:
        self.network = network
        self.images_at_once = min(max(BATCH_NEURONS // max(network.neurons, 1), 1), MOST_IMAGES)
        self._last = {name: nodes[-1].name for name, nodes in network.listeners.items() if nodes}
        self._sums: dict[tuple[str, int], tuple[DigitSum, ExactSum]] = {}
        for node in network.nodes:
            for number, one in enumerate(() if isinstance(node, MaxPool) else node.synapses):
                self._sums[node.name, number] = DigitSum(one, node.shape[0]), ExactSum(one)
        self._reaches: dict[tuple[str, tuple[int, ...]], int] = {}

    def activations(self, encoded: np.ndarray) -> dict[str, np.ndarray]:
        """n* = clip(floor((z - base) / theta), low, high) of every population.

        Args:
            encoded: (N, C, H, W) int64 images, as the network encodes them.

        Returns:
            (N, channels, height, width) int64 for each population, and under the readout's name (N, classes) logits.

        Raises:
            InputError: a potential or logit is too large for 64-bit integers.
        """
        parts = range(0, max(len(encoded), 1), self.images_at_once)
        with exact_arithmetic(None):
            layers = [dict(self._layers(encoded[first : first + self.images_at_once])) for first in parts]
        found = {name: np.concatenate([part[name] for part in layers]) for name in layers[0]}
        whole = {name: np.ascontiguousarray(values.transpose(0, 3, 1, 2), np.int64) for name, values in found.items()}
        return whole | {self.network.readout.name: whole[self.network.readout.name][:, :, 0, 0]}

    def compare(
        self, encoded: np.ndarray, counts: Mapping[str, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The predictions, how many neurons of each image have another count than those given, and how many have which.

        Args:
            encoded: (N, C, H, W) int64 images, as the network encodes them.
            counts: (N, channels, height, width) integers of each population.

        Returns:
            (N,) int64, both; and the joint histogram of activations and counts, (3, M) int64.

        Raises:
            InputError: as :meth:`activations`.
        """
        predictions, differing = np.zeros(len(encoded), np.int64), np.zeros(len(encoded), np.int64)
        # Threads take whole images, equal shares of them: most of what is done is too small to be divided.
        threads = torch.get_num_threads()
        shares = -(-len(encoded) // (self.images_at_once * threads)) * threads
        size = max(1, -(-len(encoded) // max(1, shares)))

        def compare_part(first: int) -> np.ndarray:
            part, joint = slice(first, first + size), JointHistogram()
            with torch.inference_mode():
                for name, values in self._layers(encoded[part]):
                    if name == self.network.readout.name:
                        predictions[part] = values.reshape(len(values), -1).argmax(1)
                    else:
                        differing[part] += joint.add(values, counts[name][part].transpose(0, 2, 3, 1))
            return joint.total()

        with exact_arithmetic(1), ThreadPoolExecutor(threads) as pool:
            parts = list(pool.map(compare_part, range(0, len(encoded), size)))
        return predictions, differing, join_histograms(parts)

    def _layers(self, encoded: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Populations and readout with their (N, height, width, channels) integers, kept while they are needed."""
        largest = {INPUT: int(np.abs(encoded).max(initial=0))}
        values = {INPUT: np.ascontiguousarray(encoded.transpose(0, 2, 3, 1))}
        for node in self.network.nodes:
            if isinstance(node, MaxPool):
                found = node.window.largest(values[node.source].transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
            else:
                found = self._settled(node, values, largest)
            largest[node.name] = max(abs(int(found.max(initial=0))), abs(int(found.min(initial=0))))
            if found.dtype == np.int32 and largest[node.name] <= 127:
                found = found.astype(np.int8)
            values[node.name] = found
            if isinstance(node, Neurons | Readout):
                yield node.name, found
            for name in sources(node):
                if self._last[name] == node.name:
                    values.pop(name, None)

    def _settled(
        self, node: Neurons | Sum | Readout, values: Mapping[str, np.ndarray], largest: Mapping[str, int]
    ) -> np.ndarray:
        """Counts, or sums, of a node, (N, height, width, channels)."""
        furthest = self._reach(node, largest)
        if furthest >= 1 << 63:
            raise InputError(f"{node.name}: its input is too large for 64-bit potentials; scale the images down")
        channels, height, width = node.shape
        images = len(values[node.synapses[0].source])
        kind: type[np.signedinteger] = np.int64
        low, high = -furthest - 1, furthest + 1
        if isinstance(node, Neurons):
            most = furthest // int(node.theta.min()) + 1
            low, high = -most if node.low is None else node.low, most if node.high is None else node.high
            if furthest + int(node.theta.max()) >= 1 << 63 or max(-low, high) >= MOST_COUNT:
                # without floats, where quotients are too large for them
                heard = {one.source: values[one.source].transpose(0, 3, 1, 2) for one in node.synapses}
                return np.ascontiguousarray(settled_int64(node, heard).transpose(0, 2, 3, 1))
            kind = next(kind for kind in (np.int8, np.int32, np.int64) if max(-low, high) <= np.iinfo(kind).max)
        from negspike.spiking.settling import settle  # the compiler takes a second to import

        counts = np.empty((images, height, width, channels), kind)
        step = max(1, SUMS_AT_ONCE // prod(node.shape))
        for first in range(0, images, step):
            part = slice(first, first + step)
            total = np.zeros((counts[part].size // channels, channels), np.int64)
            for number, synapses in enumerate(node.synapses):
                self._add(total, node, number, values[synapses.source][part], largest[synapses.source])
            if isinstance(node, Neurons):
                settle(total, node.base, node.theta, np.array([low, high]), counts[part].reshape(-1, channels))
            else:
                counts[part] = total.reshape(-1, height, width, channels)
        return counts + node.bias if isinstance(node, Readout) else counts

    def _add(self, total: np.ndarray, node: Neurons | Sum | Readout, number: int, x: np.ndarray, largest: int) -> None:
        """Add what one synapse makes of some images to (N * height * width, channels) int64."""
        from negspike.spiking.settling import add

        synapses, nothing = node.synapses[number], np.zeros(0, np.int64)
        digits, exact = self._sums[node.name, number]
        products = digits.products(torch.from_numpy(x), largest)
        for part, factor in products:
            add(total, part, digits.factors * factor, digits.targets)
        if products:
            return
        rows, columns = synapses.window.stride
        if synapses.weight is None and replace(synapses.window, stride=(1, 1)).is_point:
            sums = x[:, ::rows, ::columns] if synapses.channels is None else x[:, ::rows, ::columns, synapses.channels]
        else:
            sums = exact(x.transpose(0, 3, 1, 2).astype(np.int64)).transpose(0, 2, 3, 1)
        sums = np.ascontiguousarray(sums).reshape(len(total), -1)
        targets = nothing if synapses.targets is None else synapses.targets
        add(total, sums, synapses.scale, targets)

    def _reach(self, node: Neurons | Sum | Readout, largest: Mapping[str, int]) -> int:
        # The next power of two, so that few different bounds occur; where that is too much, the bound itself.
        key = node.name, tuple(1 << largest[name].bit_length() for name in sources(node))
        if key not in self._reaches:
            self._reaches[key] = reach(node, dict(zip(sources(node), key[1], strict=True)))
        return self._reaches[key] if self._reaches[key] < 1 << 62 else reach(node, largest)
