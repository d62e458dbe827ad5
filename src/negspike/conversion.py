"""From batch norm to integer weights, thresholds and bases (DESIGN section 1, "Conversion" and "Integers")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from negspike.errors import InputError
from negspike.network import Network
from negspike.quantization import weight_exponents
from negspike.spiking.network import THRESHOLD_EXTRA_BITS, SpikingLayer, SpikingNetwork, _shift
from negspike.topology import Layer, Shape, Topology, parse_topology

# Thresholds and bases stay below these, so that T thresholds fit 63 bits for T up to 2,000. A channel with a tiny
# gamma, whose threshold would be larger, gets coarser weights instead: one unit of them is still 2^-36 of it.
LARGEST_THETA = 2.0**52
LARGEST_BASE = 2.0**61


def from_network(network: Network, origin: Mapping[str, Any]) -> SpikingNetwork:
    """Convert a quantised network, trained or not, with the very weights its forward pass computes with.

    Raises:
        InputError: the network is not quantised, or holds a number that is not finite.
    """
    if network.k is None or network.weight_bits is None:
        raise InputError("a full-precision network has no spiking counterpart; train it with a quantisation level k")
    layers = []
    for block in network.blocks:
        norm = block.norm
        assert isinstance(norm, torch.nn.BatchNorm2d)
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
    return replace(converted, origin=dict(origin))


def from_batchnorm(
    topology: str | Topology,
    input_shape: Shape,
    k: int,
    layers: Sequence[Mapping[str, Any]],
    classifier: np.ndarray,
    padding: str = "same",
    weight_bits: int = 24,
) -> SpikingNetwork:
    """See :meth:`negspike.spiking.network.SpikingNetwork.from_batchnorm`."""
    if isinstance(topology, str):
        topology = parse_topology(topology, input_shape, padding, classes=np.asarray(classifier).shape[-1])
    if not 0 <= k <= 8:
        raise InputError(f"k is {k}: it must be from 0 to 8")
    if len(layers) != len(topology.layers):
        raise InputError(f"{len(layers)} layers given, topology {topology.text} has {len(topology.layers)}")
    converted = tuple(
        _convert_layer(number, geometry, entry, k, weight_bits)
        for number, (geometry, entry) in enumerate(zip(topology.layers, layers, strict=True))
    )
    matrix = np.asarray(classifier, np.float64).T
    if matrix.shape != (topology.classes, topology.features):
        raise InputError(
            f"the classifier has shape {matrix.T.shape}, expected {(topology.features, topology.classes)}"
        )
    if not np.isfinite(matrix).all():
        raise InputError("the classifier holds a number that is not finite")
    exponent = weight_exponents(torch.from_numpy(matrix), weight_bits, per_channel=False)
    network = SpikingNetwork(
        topology,
        k,
        weight_bits,
        converted,
        _integers(matrix, exponent.numpy(), weight_bits),
        int(exponent.item()),
    )
    network.validate()
    return network


def _convert_layer(number: int, geometry: Layer, entry: Mapping[str, Any], k: int, weight_bits: int) -> SpikingLayer:
    """theta = sigma / gamma and base = 2^k mu - (2^k beta + 1/2) theta, with a negative gamma's signs turned over."""
    where = f"layer {number} ({geometry.token})"
    weight, gamma, beta, mean, var = _parameters(where, geometry, entry)
    eps = float(entry["eps"])
    if not np.isfinite(eps) or eps < 0 or (var + eps <= 0).any():
        raise InputError(f"{where}: var + eps must be above 0")
    sigma = np.sqrt(var + eps)

    # A channel with gamma < 0 fires on small inputs: with W, mu and gamma negated it is one with gamma > 0.
    sign = np.where(gamma < 0, -1.0, 1.0)
    weight, mean, gamma = weight * sign[:, None, None, None], mean * sign, gamma * sign
    exponent = weight_exponents(torch.from_numpy(weight), weight_bits).numpy().astype(np.int64)

    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        theta = sigma / gamma
        base = 2.0**k * mean - (2.0**k * beta + 0.5) * theta
        room = np.minimum(np.log2(LARGEST_THETA / theta), np.log2(LARGEST_BASE / np.abs(base)))
    room = np.where(gamma > 0, np.clip(np.floor(room), -1000, 1000), 0) - THRESHOLD_EXTRA_BITS
    exponent = np.minimum(exponent, room.astype(np.int64))
    integers = _integers(weight, exponent, weight_bits)

    # Where no input can change the outcome, the channel is the constant Q_k(ReLU(batch norm of 0)).
    constant = (gamma == 0) | ~integers.any((1, 2, 3))
    level = np.maximum(np.floor(2.0**k * (beta - gamma * mean / sigma) + 0.5), 0.0)
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
    return SpikingLayer(
        geometry,
        integers,
        exponent.astype(np.int32),
        wide_theta.astype(np.int64),
        wide_base.astype(np.int64),
        _shift(number, k),
    )


def _parameters(where: str, geometry: Layer, entry: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    """Weight, gamma, beta, mean and var as float64, of the right shapes and finite."""
    shapes = {"weight": geometry.weight_shape} | dict.fromkeys(("gamma", "beta", "mean", "var"), (geometry.weight_shape[0],))
    arrays = []
    for name, shape in shapes.items():
        if name not in entry:
            raise InputError(f"{where}: '{name}' is missing")
        array = np.asarray(entry[name], np.float64)
        if array.shape != shape:
            raise InputError(f"{where}: {name} has shape {array.shape}, expected {shape}")
        if not np.isfinite(array).all():
            raise InputError(f"{where}: {name} holds a number that is not finite")
        arrays.append(array)
    if "eps" not in entry:
        raise InputError(f"{where}: 'eps' is missing")
    return tuple(arrays)


def _integers(weight: np.ndarray, exponent: np.ndarray, bits: int) -> np.ndarray:
    """round(weight * 2^exponent), int16 where that is wide enough."""
    scale = np.ldexp(1.0, exponent.astype(np.int64)).reshape(-1, *[1] * (weight.ndim - 1))
    return np.rint(weight * scale).astype(np.int16 if bits <= 16 else np.int32)


def _numpy(tensor: torch.Tensor | None) -> np.ndarray:
    assert tensor is not None
    array: np.ndarray = tensor.detach().cpu().double().numpy()
    return array
