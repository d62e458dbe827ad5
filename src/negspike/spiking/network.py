"""The integer spiking network: what it is made of, how it is stored, and the integer ANN it must agree with."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from negspike.errors import InputError
from negspike.files import atomic_path
from negspike.quantization import IMAGE_FRACTION_BITS, integer_images
from negspike.spiking.convolution import convolve
from negspike.topology import Layer, Shape, Topology, parse_topology

THRESHOLD_EXTRA_BITS = 16
FORMAT = 1


@dataclass(frozen=True)
class SpikingLayer:
    """Weights, thresholds and bases of one spiking layer, all of them integers (DESIGN section 1).

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

    @property
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
        column = (slice(None), None, None)
        counts: np.ndarray = ((current << self.shift) - self.base[column]) // self.theta[column]
        return np.maximum(counts, 0)


@dataclass(frozen=True)
class SpikingNetwork:
    """An integer spiking network with negative spikes, and at the same time the integer quantised ANN.

    Attributes:
        topology: layers and classifier.
        k: quantisation level: activations are net spike counts times 2^-k.
        weight_bits: width of the integer weights, sign included.
        layers: the spiking layers, first to last.
        classifier: (classes, features) int32; one scale for the whole matrix, features in channel-major order.
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
        """Convert convolutions with batch norm into an integer spiking network; see :mod:`negspike.conversion`.

        Args:
            topology: topology string (DESIGN section 3).
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
        from negspike.conversion import from_batchnorm  # conversion builds this class, so it is imported late

        return from_batchnorm(topology, input_shape, k, layers, classifier, padding, weight_bits)

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
            if reached << layer.shift >= 1 << 61:
                raise InputError(f"layer {number}: its input is too large for 64-bit potentials; scale the images down")
            x = layer.settled_counts(convolve(x, layer.weight, layer.geometry))
            counts.append(x)
        return counts

    def logits(self, counts: np.ndarray) -> np.ndarray:
        """Classifier outputs for net spike counts of the last layer, (N, ...) integers to (N, classes) int64."""
        logits: np.ndarray = counts.reshape(len(counts), -1).astype(np.int64) @ self.classifier.T.astype(np.int64)
        return logits

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Check images and turn them into int64 with 16 fractional bits, what the first layer is given at t = 0."""
        images = np.asarray(images)
        if images.ndim != 4 or images.shape[1:] != self.topology.input_shape:
            raise InputError(f"images have shape {images.shape}, expected (N, {_text(self.topology.input_shape)})")
        return integer_images(images)

    def check_potentials(self, encoded: np.ndarray, timesteps: int) -> None:
        """Prove that no potential of this run can leave 64 bits (DESIGN section 1, "Integers").

        With T time steps, a neuron sums at most T times its absolute weights, or once the largest pixel times them in
        the first layer, and its net spike count is at most T.

        Raises:
            InputError: the proof fails, for the layer it names.
        """
        largest = int(np.abs(encoded).max(initial=0))
        for number, layer in enumerate(self.layers):
            current = layer.largest_sum * (largest if number == 0 else timesteps)
            reach = (current << layer.shift) + int(np.abs(layer.base).max()) + (timesteps + 1) * int(layer.theta.max())
            if reach >= 1 << 63:
                raise InputError(
                    f"layer {number}: potentials could leave 64 bits in {timesteps} time steps; "
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
            "image_fraction_bits": IMAGE_FRACTION_BITS,
            "threshold_extra_bits": THRESHOLD_EXTRA_BITS,
            "classifier_exponent": self.classifier_exponent,
            "origin": dict(self.origin),
        }
        text = json.dumps(header, sort_keys=True)
        with atomic_path(path) as temporary, open(temporary, "wb") as stream:
            np.savez(stream, header=np.array(text), checksum=np.array(_checksum(text, arrays)), **arrays)

    @classmethod
    def load(cls, path: Path | str) -> SpikingNetwork:
        """Read what :meth:`save` wrote; nothing is unpickled.

        Raises:
            InputError: the file is missing, truncated, altered or of another format.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            text, checksum = str(arrays.pop("header")), str(arrays.pop("checksum"))
            header = json.loads(text)
            if header["format"] != FORMAT:
                raise InputError(f"{path}: format {header['format']}, this version reads {FORMAT}; convert again")
            if checksum != _checksum(text, arrays):
                raise InputError(f"{path}: its numbers do not match its checksum, it was altered; convert again")
            topology = parse_topology(
                header["topology"], tuple(header["input_shape"]), header["padding"], header["width"], header["classes"]
            )
            layers = tuple(
                SpikingLayer(
                    geometry,
                    *(arrays[f"{name}{number}"] for name in ("weight", "exponent", "theta", "base")),
                    shift=_shift(number, header["k"]),
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
        except InputError:
            raise
        except FileNotFoundError as error:
            raise InputError(f"{path}: there is no such file") from error
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise InputError(f"{path}: not a spiking network written by this package ({error})") from error
        network.validate()
        return network

    def validate(self) -> None:
        """Check shapes, types and ranges of every array.

        Raises:
            InputError: the first that is wrong.
        """
        limit = 2 ** (self.weight_bits - 1) - 1
        for number, layer in enumerate(self.layers):
            outputs = layer.geometry.weight_shape[0]
            expected = {
                "weight": (layer.geometry.weight_shape, "iu"),
                "exponent": ((outputs,), "i"),
                "theta": ((outputs,), "i"),
                "base": ((outputs,), "i"),
            }
            for name, (shape, kinds) in expected.items():
                array = getattr(layer, name)
                if array.shape != shape or array.dtype.kind not in kinds:
                    raise InputError(
                        f"layer {number} ({layer.geometry.token}): {name} is {array.dtype} of shape {array.shape}, "
                        f"expected integers of shape {shape}"
                    )
            if np.abs(layer.weight.astype(np.int64)).max(initial=0) > limit:
                raise InputError(f"layer {number}: a weight is wider than {self.weight_bits} bits")
            if layer.theta.min() < 1:
                raise InputError(f"layer {number}: a threshold is below 1")
        expected_shape = (self.topology.classes, self.topology.features)
        if self.classifier.shape != expected_shape or self.classifier.dtype.kind != "i":
            raise InputError(f"the classifier has shape {self.classifier.shape}, expected {expected_shape}")

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = {"classifier": self.classifier}
        for number, layer in enumerate(self.layers):
            for name in ("weight", "exponent", "theta", "base"):
                arrays[f"{name}{number}"] = getattr(layer, name)
        return arrays


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
