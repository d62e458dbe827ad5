"""The integer spiking network: a graph of neurons, max pools and sums that ends in a readout."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from negspike.errors import InputError
from negspike.fixed_point import IMAGE_FRACTION_BITS, integer_images
from negspike.spiking import storage
from negspike.spiking.bounds import latency_bound
from negspike.spiking.nodes import INPUT, Layer, MaxPool, Neurons, Node, Readout, Shape, Sum, image_shape, sources
from negspike.spiking.validation import check_integers, validate
from negspike.tables import Table

if TYPE_CHECKING:
    from negspike.spiking.integer_ann import IntegerAnn

_OTHERS: tuple[tuple[str, type], ...] = (("max pools", MaxPool), ("sums", Sum))


@dataclass(frozen=True, eq=False, repr=False)
class SpikingNetwork(Table):
    """An integer spiking network with negative spikes, and at the same time the integer quantised ANN.

    Attributes:
        input_shape: image as (channels, height, width).
        nodes: in an order in which every node comes after those it listens to; the last one is the readout.
        weight_bits: width of the integer weights, sign included.
        origin: where it comes from: net, k, dataset, seed, checksum of the data. Empty for networks from outside.
        image_fraction_bits: of the image; fewer than 16 in networks of narrow thresholds.

    Raises:
        InputError: shapes, types or ranges do not fit together; it names the node.
    """

    input_shape: Shape
    nodes: tuple[Node, ...]
    weight_bits: int
    origin: Mapping[str, Any] = field(default_factory=dict)
    image_fraction_bits: int = IMAGE_FRACTION_BITS

    def __post_init__(self) -> None:
        validate(self)

    @classmethod
    def from_batchnorm(
        cls,
        topology: str,
        input_shape: Shape,
        k: int,
        layers: Sequence[Mapping[str, Any]],
        classifier: np.ndarray,
        padding: str = "same",
        weight_bits: int = 24,
    ) -> SpikingNetwork:
        """Convert convolutions with batch norm into an integer spiking network; see :mod:`negspike.conversion.arrays`.

        Args:
            topology: topology string (docs/configuration.md).
            input_shape: image as (channels, height, width).
            k: quantisation level the network was trained with.
            layers: one mapping a layer with ``weight`` (outputs, inputs, kernel height, kernel width), ``gamma``,
                ``beta``, ``mean``, ``var`` (outputs,) and ``eps``, a number; and ``bias`` (outputs,) if the convolution
                has one.
            classifier: (features, classes) floats, features in channel-major (C, H, W) order.
            padding: ``"same"`` or ``"valid"``.
            weight_bits: 2 to 24. Weights that were trained without rounding lose least with 24.

        Raises:
            InputError: a shape that does not fit the topology, or a number that is not finite.
        """
        # By name: conversion builds this class, and nothing here depends on it.
        build = importlib.import_module("negspike.conversion.arrays").from_batchnorm
        network: SpikingNetwork = build(topology, input_shape, k, layers, classifier, padding, weight_bits)
        return network

    @cached_property
    def populations(self) -> tuple[Neurons, ...]:
        """The nodes that have neurons, in order."""
        return tuple(node for node in self.nodes if isinstance(node, Neurons))

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The nodes that synapses lead to, in order: all but max pools."""
        return tuple(node for node in self.nodes if not isinstance(node, MaxPool))

    @property
    def readout(self) -> Readout:
        """The last node."""
        last = self.nodes[-1]
        assert isinstance(last, Readout)
        return last

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """(channels, height, width) of the image and of every node, by name."""
        return {INPUT: self.input_shape} | {node.name: node.shape for node in self.nodes}

    @cached_property
    def listeners(self) -> dict[str, tuple[Node, ...]]:
        """For the image and every node, the nodes that listen to it."""
        return {name: tuple(node for node in self.nodes if name in sources(node)) for name in self.shapes}

    def node(self, name: str) -> Node:
        """The node of that name.

        Raises:
            InputError: there is none.
        """
        found = next((node for node in self.nodes if node.name == name), None)
        if found is None:
            raise InputError(f"there is no node {name!r}; there are {', '.join(node.name for node in self.nodes)}")
        return found

    @property
    def neurons(self) -> int:
        """Neurons of all populations (docs/counting.md)."""
        return sum(population.neurons for population in self.populations)

    @property
    def classes(self) -> int:
        """Outputs of the readout."""
        return self.readout.shape[0]

    @property
    def macs(self) -> int:
        """Multiply-accumulates an image, of all weights but those on the image (docs/counting.md)."""
        return sum(self.macs_of(layer)[0] for layer in self.layers)

    def macs_of(self, layer: Layer) -> tuple[int, int]:
        """Multiply-accumulates an image of one layer: of all weights but those on the image, and of those."""
        macs = [0, 0]
        for synapses in layer.synapses:
            macs[synapses.source == INPUT] += synapses.macs(layer.shape[1] * layer.shape[2])
        return macs[0], macs[1]

    @property
    def reference_operations(self) -> int:
        """Additions an image of the reference ANN: a multiplication counts as two, so 3 a multiply-accumulate."""
        return 3 * self.macs

    @cached_property
    def threshold_bits(self) -> int:
        """Bits, sign included, that thresholds, bases and biases of the logits need."""
        arrays = [self.readout.bias, *(array for one in self.populations for array in (one.theta, one.base))]
        return max(int(np.abs(array).max(initial=0)) for array in arrays).bit_length() + 1

    @cached_property
    def largest_weight_bits(self) -> int:
        """Bits, sign included, that the largest weight needs; at most ``weight_bits``."""
        weights = [one.weight for layer in self.layers for one in layer.synapses if one.weight is not None]
        return max((int(np.abs(one.astype(np.int64)).max(initial=0)) for one in weights), default=0).bit_length() + 1

    @property
    def signed(self) -> bool:
        """Whether a net spike count can be negative, as behind signed quantisers."""
        return any(population.low != 0 for population in self.populations)

    @cached_property
    def latency_bound(self) -> int | None:
        """Time steps after which every image is silent, proved; None where a population has no bound."""
        return latency_bound(self)

    @cached_property
    def _integer_ann(self) -> IntegerAnn:
        from negspike.spiking.integer_ann import IntegerAnn  # PyTorch takes seconds to import

        return IntegerAnn(self)

    def activations(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """The integer quantised ANN's activations n*, population by population, in closed form.

        Args:
            images: (N, C, H, W) standardised floats; rounded to the network's ``image_fraction_bits``.

        Returns:
            (N, channels, height, width) int64 for each population by its node's name, and (N, classes) int64 logits
            under the name of the readout.

        Raises:
            InputError: images of another shape or not finite, or activations too large for 64-bit integers.
        """
        return self._integer_ann.activations(self.encode(images))

    def compare(
        self, images: np.ndarray, counts: Mapping[str, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The integer ANN's predictions, how many neurons of each image differ from it, and the joint histogram.

        The first two are (N,) int64, the third (3, M) int64: columns of an activation, a net count, and how many
        neurons of all images have both.

        Args:
            images: (N, C, H, W) standardised floats; rounded to the network's ``image_fraction_bits``.
            counts: (N, channels, height, width) net spike counts of each population by its node's name.

        Raises:
            InputError: as :meth:`activations`, or counts of a population are missing or of another shape.
        """
        encoded = self.encode(images)
        for one in self.populations:
            found = counts.get(one.name)
            check_integers(
                f"counts of {one.name}", found, (len(encoded), *one.shape), (np.int8, np.int16, np.int32, np.int64)
            )
        return self._integer_ann.compare(encoded, counts)

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Check images and turn them into int64 with ``image_fraction_bits``, what is given to the network at t = 0."""
        from negspike.arguments import as_array  # with PyTorch's tensors

        images = as_array("the images", images)
        if images.ndim not in (2, 3, 4) or image_shape(images.shape[1:]) != self.input_shape:
            expected = ", ".join(map(str, self.input_shape))
            raise InputError(f"images have shape {images.shape}, expected (N, {expected})")
        return integer_images(images.reshape(-1, *self.input_shape), self.image_fraction_bits)

    def save(self, path: Path | str) -> None:
        """Write the network, self-contained, as ``.npz`` with a checksum over its numbers; atomic (docs/format.md)."""
        storage.save(self, path)

    @classmethod
    def load(cls, path: Path | str) -> SpikingNetwork:
        """Read what :meth:`save` wrote; nothing is unpickled.

        Raises:
            InputError: the file is missing, truncated, altered or of another format.
        """
        return storage.load(path, cls)

    def _table(self) -> tuple[str, list[tuple[str, str]]]:
        counted = [(words, sum(isinstance(node, kind) for node in self.nodes)) for words, kind in _OTHERS]
        bound = "not bounded" if self.latency_bound is None else f"at most {self.latency_bound} time steps"
        return "SpikingNetwork", [
            ("image", " x ".join(map(str, self.input_shape))),
            ("populations", str(len(self.populations))),
            *((words, str(number)) for words, number in counted if number),
            ("neurons", f"{self.neurons:,}"),
            ("classes", f"{self.classes:,}"),
            ("multiply-accumulates", f"{self.macs:,}"),
            ("weights", f"{self.largest_weight_bits} bits"),
            ("thresholds and bases", f"{self.threshold_bits} bits"),
            ("latency", bound),
        ]
