"""The integer spiking network: what it is made of, how it is stored, and the integer ANN it must agree with."""

from __future__ import annotations

import hashlib
import importlib
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from negspike.errors import InputError
from negspike.files import atomic_path
from negspike.fixed_point import IMAGE_FRACTION_BITS, integer_images
from negspike.spiking.convolution import FLOAT64_EXACT, Convolution
from negspike.training.topology import Layer, Shape, Topology, parse_topology

LARGEST_K = 8
THRESHOLD_EXTRA_BITS = 16
FORMAT = 1
_FRACTION_BITS = {"image_fraction_bits": IMAGE_FRACTION_BITS, "threshold_extra_bits": THRESHOLD_EXTRA_BITS}
# What NumPy, zipfile and json raise for damaged or foreign files; NotImplementedError is zipfile's word for a
# compression that it does not know.
_UNREADABLE = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, MemoryError, NotImplementedError),
    *(RuntimeError, zipfile.BadZipFile, zlib.error),
)


@dataclass(frozen=True)
class SpikingLayer:
    """Weights, thresholds and bases of one spiking layer, all of them integers (docs/exactness.md).

    A weight w of output channel c stands for w * 2^-exponent[c]; thresholds and bases have 16 more fractional bits.
    A potential z, the sum of integer weights, is compared with them as z * 2^shift.

    Attributes:
        geometry: shapes, stride and padding.
        weight: (outputs, inputs, kernel height, kernel width) int16 or int32.
        exponent: (outputs,) int32.
        theta: (outputs,) int64, the threshold of each output channel, at least 1.
        base: (outputs,) int64.
        shift: 16, or k in the first layer, whose input carries 16 fractional bits and is 2^k times the image.
    """

    geometry: Layer
    weight: np.ndarray
    exponent: np.ndarray
    theta: np.ndarray
    base: np.ndarray
    shift: int

    @cached_property
    def largest_base(self) -> int:
        """Largest absolute base."""
        return max(int(self.base.max()), -int(self.base.min()))

    @cached_property
    def convolve(self) -> Convolution:
        """From (N, inputs, height, width) to (N, outputs, out height, out width), int64, input to potentials."""
        return Convolution(self.weight, self.geometry)

    @cached_property
    def largest_sum(self) -> int:
        """Largest sum of absolute weights over the inputs of one neuron: what one time step can add to a potential."""
        return int(np.abs(self.weight.astype(np.int64)).sum((1, 2, 3)).max())

    def settled_counts(self, current: np.ndarray) -> np.ndarray:
        """n* = max(0, floor((z - base) / theta)), the net spike count at rest.

        Args:
            current: z, (N, outputs, height, width) int64.

        Returns:
            int64 of the same shape.
        """
        theta, base = (torch.from_numpy(values)[:, None, None] for values in (self.theta, self.base))
        above = (torch.from_numpy(current) << self.shift) - base
        # PyTorch divides integers on several threads.
        counts: np.ndarray = torch.div(above, theta, rounding_mode="floor").clamp_(min=0).numpy()
        return counts


@dataclass(frozen=True)
class SpikingNetwork:
    """An integer spiking network with negative spikes, and at the same time the integer quantised ANN.

    Attributes:
        topology: layers and classifier.
        k: quantisation level: activations are net spike counts times 2^-k.
        weight_bits: width of the integer weights, sign included.
        layers: the spiking layers, first to last.
        classifier: (classes, features) int16 or int32; one scale for the whole matrix, features in channel-major order.
        classifier_exponent: a classifier weight w stands for w * 2^-classifier_exponent.
        origin: where it comes from: net, dataset, seed, checksum of the data. Empty for networks from outside.
    """

    topology: Topology
    k: int
    weight_bits: int
    layers: tuple[SpikingLayer, ...]
    classifier: np.ndarray
    classifier_exponent: int
    origin: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_batchnorm(
        cls,
        topology: str | Topology,
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
                ``beta``, ``mean``, ``var`` (outputs,) and ``eps``, a number.
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

    def activations(self, images: np.ndarray) -> list[np.ndarray]:
        """The integer quantised ANN's activations n*, layer by layer, in closed form.

        Args:
            images: (N, C, H, W) standardised floats; rounded to 16 fractional bits.

        Returns:
            One int64 array (N, outputs, height, width) a layer.

        Raises:
            InputError: images of another shape or not finite, or activations too large for 64-bit integers.
        """
        x = self.encode(images)
        counts = []
        for number, layer in enumerate(self.layers):
            reached = int(np.abs(x).max(initial=0)) * layer.largest_sum
            if (reached << layer.shift) + layer.largest_base >= 1 << 63:
                raise InputError(f"layer {number}: its input is too large for 64-bit potentials; scale the images down")
            x = layer.settled_counts(layer.convolve(x))
            counts.append(x)
        return counts

    def logits(self, counts: np.ndarray) -> np.ndarray:
        """Classifier outputs for net spike counts of the last layer, (N, ...) integers to (N, classes) int64.

        Raises:
            InputError: the counts are too large for 64-bit integers.
        """
        if int(counts.max(initial=0)) * self._largest_class >= 1 << 63:
            raise InputError("the classifier's input is too large for 64-bit integers; scale the images down")
        logits: np.ndarray = counts.reshape(len(counts), -1).astype(np.int64) @ self.classifier.T.astype(np.int64)
        return logits

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Check images and turn them into int64 with 16 fractional bits, what the first layer is given at t = 0."""
        images = np.asarray(images)
        if images.ndim != 4 or images.shape[1:] != self.topology.input_shape:
            raise InputError(f"images have shape {images.shape}, expected (N, {_text(self.topology.input_shape)})")
        return integer_images(images)

    def check_potentials(self, encoded: np.ndarray, timesteps: int) -> None:
        """Prove that no potential of this run can leave 64 bits (docs/exactness.md, "Integers").

        With T time steps, a neuron sums at most T times its absolute weights, or once the largest pixel times them in
        the first layer, and its net spike count is at most T. The classifier's sums must even fit the 53 bits of
        float64, in which an engine may compute them.

        Raises:
            InputError: the proof fails, for the layer it names.
        """
        if timesteps >= 1 << 31:
            raise InputError(f"timesteps is {timesteps}: net spike counts are 32 bits wide; simulate fewer")
        largest = int(np.abs(encoded).max(initial=0))
        for number, layer in enumerate(self.layers):
            current = layer.largest_sum * (largest if number == 0 else timesteps)
            reach = (current << layer.shift) + layer.largest_base + (timesteps + 1) * int(layer.theta.max())
            if reach >= 1 << 63:
                raise InputError(
                    f"layer {number}: potentials could leave 64 bits in {timesteps} time steps; "
                    "simulate fewer or convert with fewer weight_bits"
                )
        if timesteps * self._largest_class >= FLOAT64_EXACT:
            raise InputError(
                f"the classifier's sums could leave 53 bits in {timesteps} time steps; "
                "simulate fewer or convert with fewer weight_bits"
            )

    def save(self, path: Path | str) -> None:
        """Write the network, self-contained, as ``.npz`` with a checksum over its numbers; atomic."""
        arrays = self._arrays()
        header = {
            "format": FORMAT,
            "topology": self.topology.text,
            "input_shape": list(self.topology.input_shape),
            "padding": self.topology.padding,
            "width": self.topology.width,
            "classes": self.topology.classes,
            "k": self.k,
            "weight_bits": self.weight_bits,
            **_FRACTION_BITS,
            "classifier_exponent": self.classifier_exponent,
            "origin": dict(self.origin),
        }
        text = json.dumps(header, sort_keys=True)
        with atomic_path(path) as temporary, open(temporary, "wb") as stream:
            members = {"header": np.array(text), "checksum": np.array(_checksum(text, arrays))} | arrays
            np.savez(stream, **members)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path | str) -> SpikingNetwork:
        """Read what :meth:`save` wrote; nothing is unpickled.

        Raises:
            InputError: the file is missing, truncated, altered or of another format.
        """
        try:
            return cls._read(path)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        except FileNotFoundError as error:
            raise InputError(f"{path}: there is no such file") from error
        except _UNREADABLE as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"{path}: not a spiking network written by this package ({reason}); convert again"
            ) from error

    @classmethod
    def _read(cls, path: Path | str) -> SpikingNetwork:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        text, checksum = str(arrays.pop("header")), str(arrays.pop("checksum"))
        header = json.loads(text)
        if header["format"] != FORMAT:
            raise InputError(f"format {header['format']!r}, this version reads {FORMAT}; convert again")
        if checksum != _checksum(text, arrays):
            raise InputError("its numbers do not match its checksum, it was altered; convert again")
        for name, bits in _FRACTION_BITS.items():
            if header[name] != bits:
                raise InputError(f"{name} is {header[name]!r}, this version reads {bits}; convert again")
        topology = parse_topology(
            header["topology"], tuple(header["input_shape"]), header["padding"], header["width"], header["classes"]
        )
        layers = tuple(
            SpikingLayer(
                geometry,
                arrays[f"weight{number}"],
                arrays[f"exponent{number}"],
                arrays[f"theta{number}"],
                arrays[f"base{number}"],
                _shift(number, header["k"]),
            )
            for number, geometry in enumerate(topology.layers)
        )
        network = cls(
            topology,
            header["k"],
            header["weight_bits"],
            layers,
            arrays["classifier"],
            header["classifier_exponent"],
            header["origin"],
        )
        network.validate()
        return network

    def validate(self) -> None:
        """Check shapes, types and ranges of every array.

        Raises:
            InputError: the first that is wrong.
        """
        if not 0 <= self.k <= LARGEST_K or not 2 <= self.weight_bits <= 24:
            raise InputError(f"k is {self.k} and weight_bits {self.weight_bits}: expected 0 to {LARGEST_K} and 2 to 24")
        geometries = tuple(layer.geometry for layer in self.layers)
        shifts = [layer.shift for layer in self.layers]
        if geometries != self.topology.layers or shifts != [_shift(i, self.k) for i in range(len(shifts))]:
            raise InputError(f"the layers are not those of topology {self.topology.text} with k = {self.k}")
        weights = (np.int16, np.int32)
        for number, layer in enumerate(self.layers):
            outputs = layer.geometry.weight_shape[0]
            where = f"layer {number} ({layer.geometry.token})"
            _check_integers(f"{where}: weight", layer.weight, layer.geometry.weight_shape, weights)
            _check_integers(f"{where}: exponent", layer.exponent, (outputs,), (np.int32,))
            _check_integers(f"{where}: theta", layer.theta, (outputs,), (np.int64,))
            _check_integers(f"{where}: base", layer.base, (outputs,), (np.int64,))
            self._check_width(f"{where}: a weight", layer.weight)
            if layer.theta.min() < 1:
                raise InputError(f"{where}: a threshold is below 1")
        _check_integers("classifier", self.classifier, (self.topology.classes, self.topology.features), weights)
        self._check_width("a weight of the classifier", self.classifier)

    def _check_width(self, name: str, weight: np.ndarray) -> None:
        if np.abs(weight.astype(np.int64)).max(initial=0) >= 1 << (self.weight_bits - 1):
            raise InputError(f"{name} is wider than {self.weight_bits} bits")

    @cached_property
    def _largest_class(self) -> int:
        """Largest sum of absolute weights over the inputs of one class."""
        return int(np.abs(self.classifier.astype(np.int64)).sum(1).max())

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = {"classifier": self.classifier}
        for number, layer in enumerate(self.layers):
            for name in ("weight", "exponent", "theta", "base"):
                arrays[f"{name}{number}"] = getattr(layer, name)
        return arrays


def _check_integers(name: str, array: np.ndarray, shape: tuple[int, ...], types: Sequence[type[np.integer]]) -> None:
    if array.shape != shape or array.dtype not in types:
        expected = " or ".join(np.dtype(kind).name for kind in types)
        raise InputError(f"{name} is {array.dtype} of shape {array.shape}, expected {expected} of shape {shape}")


def _shift(number: int, k: int) -> int:
    """Left shift from a layer's potential to the units of its thresholds; see :class:`SpikingLayer`."""
    return k + THRESHOLD_EXTRA_BITS - IMAGE_FRACTION_BITS if number == 0 else THRESHOLD_EXTRA_BITS


def _checksum(header: str, arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(header.encode())
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype.str} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()


def _text(shape: Sequence[int]) -> str:
    return ", ".join(str(size) for size in shape)
