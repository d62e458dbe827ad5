"""From batch norm to integer weights, thresholds and bases (docs/exactness.md)."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from negspike.arguments import within
from negspike.errors import InputError
from negspike.fixed_point import IMAGE_FRACTION_BITS, LARGEST_BASE, LARGEST_THETA, THRESHOLD_EXTRA_BITS
from negspike.spiking.graph import SpikingNetwork
from negspike.spiking.nodes import INPUT, Neurons, Node, Readout, Synapses, Window
from negspike.training.network import Block, Network
from negspike.training.quantization import weight_exponents
from negspike.training.topology import Layer, Shape, Topology, parse_topology

LARGEST_K = 8


def from_network(network: Network, origin: Mapping[str, Any]) -> SpikingNetwork:
    """Convert a quantised network, trained or not, with the very weights its forward pass computes with.

    Raises:
        InputError: the network is not quantised, or holds a number that is not finite.
    """
    if network.k is None or network.weight_bits is None:
        raise InputError("a full-precision network has no spiking counterpart; train it with a quantisation level k")
    layers = []
    for block in network.blocks:
        assert isinstance(block, Block)
        norm = block.norm
        tensors = {
            "weight": block.weight,
            "gamma": norm.weight,
            "beta": norm.bias,
            "mean": norm.running_mean,
            "var": norm.running_var,
        }
        layers.append({name: _numpy(tensor) for name, tensor in tensors.items()} | {"eps": norm.eps})
    classifier = _numpy(network.classifier).T
    converted = from_batchnorm(
        network.topology, network.topology.input_shape, network.k, layers, classifier, weight_bits=network.weight_bits
    )
    return replace(converted, origin=dict(converted.origin) | dict(origin))


def from_batchnorm(
    topology: str | Topology,
    input_shape: Shape,
    k: int,
    layers: Sequence[Mapping[str, Any]],
    classifier: np.ndarray,
    padding: str = "same",
    weight_bits: int = 24,
) -> SpikingNetwork:
    """See :meth:`negspike.spiking.graph.SpikingNetwork.from_batchnorm`."""
    k, weight_bits = within("k", k, 0, LARGEST_K), within("weight_bits", weight_bits, 2, 24)
    matrix = _floats("the classifier", classifier).T
    if matrix.ndim != 2 or matrix.size == 0:
        raise InputError(f"the classifier has shape {matrix.T.shape}, expected (features, classes)")
    input_shape = _shape(input_shape)
    if isinstance(topology, str):
        topology = parse_topology(topology, input_shape, padding, classes=len(matrix))
    elif not isinstance(topology, Topology):
        raise InputError(f"the topology is {topology!r}: it must be text, such as '96C3-P2-10'")
    elif topology.input_shape != input_shape:
        raise InputError(f"input_shape is {input_shape}, the topology is for {topology.input_shape}")
    if not isinstance(layers, Sequence) or not all(isinstance(entry, Mapping) for entry in layers):
        raise InputError(f"the layers are {str(layers)[:80]!r}: they must be a list of mappings, one a layer")
    if len(layers) != len(topology.layers):
        raise InputError(f"{len(layers)} layers given, topology {topology.text} has {len(topology.layers)}")
    if matrix.shape != (topology.classes, topology.features):
        expected = f"({topology.features} features, classes)"
        turned = ", transpose it" if len(matrix) == topology.features else ""
        raise InputError(f"the classifier has shape {matrix.T.shape}, expected {expected}{turned}")
    nodes: list[Node] = []
    for number, (geometry, entry) in enumerate(zip(topology.layers, layers, strict=True)):
        source = nodes[-1].name if nodes else INPUT
        nodes.append(_convert_layer(number, geometry, entry, k=k, weight_bits=weight_bits, source=source))
    nodes.append(_convert_classifier(topology, matrix, k=k, weight_bits=weight_bits, source=nodes[-1].name))
    return SpikingNetwork(topology.input_shape, tuple(nodes), weight_bits, {"topology": topology.text, "k": k})


def _convert_classifier(topology: Topology, matrix: np.ndarray, *, k: int, weight_bits: int, source: str) -> Readout:
    """One scale for the whole matrix, since argmax compares classes."""
    exponent = weight_exponents(torch.from_numpy(matrix), weight_bits, per_channel=False)
    features = topology.layers[-1].out_shape
    weight = _integers(matrix, exponent.numpy(), weight_bits).reshape(-1, *features)
    synapses = Synapses(source, Window(features[1:]), np.ones(topology.classes, np.int64), weight)
    unit = 2.0 ** (-int(exponent.item()) - k)
    return Readout("classifier", (topology.classes, 1, 1), (synapses,), np.zeros(topology.classes, np.int64), unit)


def _convert_layer(
    number: int, geometry: Layer, entry: Mapping[str, Any], *, k: int, weight_bits: int, source: str
) -> Neurons:
    """theta = sigma / gamma and base = 2^k mu - (2^k beta + 1/2) theta, with a negative gamma's signs turned over."""
    where = f"layer {number} ({geometry.token})"
    weight, gamma, beta, mean, var, eps = _parameters(where, geometry, entry)
    if (var < 0).any() or eps < 0 or (var + eps <= 0).any():
        raise InputError(f"{where}: var and eps must be at least 0, and var + eps above 0")
    sigma = np.sqrt(var + eps)

    # A channel with gamma < 0 fires on small inputs: with W, mu and gamma negated it is one with gamma > 0.
    sign = np.where(gamma < 0, -1.0, 1.0)
    weight, mean, gamma = weight * sign[:, None, None, None], mean * sign, gamma * sign
    exponent = weight_exponents(torch.from_numpy(weight), weight_bits).numpy().astype(np.int64)

    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        theta = sigma / gamma
        base = 2.0**k * mean - (2.0**k * beta + 0.5) * theta
        room = np.minimum(np.log2(LARGEST_THETA / theta), np.log2(LARGEST_BASE / np.abs(base)))
        level = 2.0**k * (beta - np.where(gamma > 0, gamma * (mean / sigma), 0.0))
        # Not floor(level + 1/2), whose sum rounds up to 1 for the last number below one half.
        level = np.maximum(np.floor(level) + (level - np.floor(level) >= 0.5), 0.0)
    # A threshold or base that overflows even float64 leaves no room for any weight.
    room = np.where(np.isfinite(theta) & np.isfinite(base), np.clip(np.floor(room), -1000, 1000), -1000)
    room = room - THRESHOLD_EXTRA_BITS
    exponent = np.minimum(exponent, room.astype(np.int64))
    integers = _integers(weight, exponent, weight_bits)

    # Where no input can change the outcome, the channel is the constant Q_k(ReLU(batch norm of 0)).
    constant = (gamma == 0) | ~integers.any((1, 2, 3))
    integers[constant] = 0
    exponent = np.where(constant, 0, exponent)
    theta = np.where(constant, 1.0, theta)
    base = np.where(constant, -level, base)

    scale = np.ldexp(1.0, exponent + THRESHOLD_EXTRA_BITS)
    wide_theta, wide_base = np.rint(theta * scale), np.rint(base * scale)
    for name, values, low, high in (
        ("threshold", wide_theta, 1.0, LARGEST_THETA),
        ("base", wide_base, -LARGEST_BASE, LARGEST_BASE),
    ):
        wrong = np.flatnonzero(~((values >= low) & (values <= high)))
        if len(wrong):
            channel = int(wrong[0])
            raise InputError(
                f"{where}: the {name} of channel {channel} cannot be represented: gamma {gamma[channel]:.3g}, beta "
                f"{beta[channel]:.3g}, mean {mean[channel]:.3g}, var {var[channel]:.3g} are out of proportion"
            )
    # The image carries 16 fractional bits, and the first layer is given 2^k times it.
    shift = k + THRESHOLD_EXTRA_BITS - IMAGE_FRACTION_BITS if source == INPUT else THRESHOLD_EXTRA_BITS
    window = Window(geometry.kernel, (geometry.stride, geometry.stride), geometry.padding)
    synapses = Synapses(source, window, np.full(len(integers), 1 << shift, np.int64), integers)
    return Neurons(
        name=f"layer{number}",
        shape=geometry.out_shape,
        synapses=(synapses,),
        theta=wide_theta.astype(np.int64),
        base=wide_base.astype(np.int64),
        step=2.0**-k,
    )


def _parameters(where: str, geometry: Layer, entry: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    """Weight, gamma, beta, mean, var and eps as float64, of the right shapes and finite."""
    channels = (geometry.weight_shape[0],)
    shapes: dict[str, tuple[int, ...]] = {"weight": geometry.weight_shape}
    shapes |= dict.fromkeys(("gamma", "beta", "mean", "var"), channels) | {"eps": ()}
    unknown = entry.keys() - shapes.keys() - {"bias"}
    if unknown:
        raise InputError(f"{where}: '{min(map(str, unknown))}' is unknown: there are {', '.join(shapes)} and bias")
    arrays = []
    for name, shape in shapes.items():
        if name not in entry:
            raise InputError(f"{where}: '{name}' is missing")
        array = _floats(f"{where}: {name}", entry[name])
        if array.shape != shape:
            raise InputError(f"{where}: {name} has shape {array.shape}, expected {shape}")
        arrays.append(array)
    if "bias" in entry:
        bias = _floats(f"{where}: bias", entry["bias"])
        if bias.shape != channels:
            raise InputError(f"{where}: bias has shape {bias.shape}, expected {channels}")
        arrays[3] = arrays[3] - bias  # batch norm takes its mean off what the convolution gives
    return tuple(arrays)


def _floats(name: str, value: Any) -> np.ndarray:
    """Real, finite numbers, an array, tensor or nested list of them, as float64."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = value if value.is_complex() else value.double()
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputError(f"{name} is not an array of numbers") from error
    if array.dtype.kind not in "fiub":
        raise InputError(f"{name} is {array.dtype}, expected real numbers")
    with np.errstate(over="ignore"):
        array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise InputError(f"{name} holds a number that is not finite")
    return array


def _shape(sizes: Any) -> Shape:
    """(channels, height, width) of any integer type as ``int``."""
    try:
        channels, height, width = (operator.index(size) for size in sizes)
    except (TypeError, ValueError) as error:
        raise InputError(f"input_shape is {sizes!r}: it must be (channels, height, width)") from error
    return channels, height, width


def _integers(weight: np.ndarray, exponent: np.ndarray, bits: int) -> np.ndarray:
    """round(weight * 2^exponent), int16 where that is wide enough."""
    scale = np.ldexp(1.0, exponent.astype(np.int64)).reshape(-1, *[1] * (weight.ndim - 1))
    integers: np.ndarray = np.rint(weight * scale).astype(np.int16 if bits <= 16 else np.int32)
    return integers


def _numpy(tensor: torch.Tensor | None) -> np.ndarray:
    assert tensor is not None
    array: np.ndarray = tensor.detach().cpu().double().numpy()
    return array
