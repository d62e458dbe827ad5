"""A network as a NIR graph in HDF5, and back (docs/export.md).

What NIR has a node for is said by that node, in numbers that any reader of NIR understands; the integers and the rules
that it has no words for are in the nodes' metadata, and the header of docs/format.md in the graph's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from negspike.errors import InputError, foreign_file
from negspike.export import package
from negspike.files import atomic_path
from negspike.spiking import storage
from negspike.spiking.graph import SpikingNetwork
from negspike.spiking.nodes import INPUT, MaxPool, Neurons, Node, Readout, Shape, Sum, Synapses, Window

RULES = """Input: the image times 2^image_fraction_bits, rounded, halves to even, in the first time step; then zeros.
IF: v starts at -base. In each time step, after its sources: v += input; spike +1 if v >= theta and n < high; -1 if
v < 0 and n > low; else 0; v -= spike * theta; n += spike, from 0. Without low or high there is no such bound.
SumPool2d with a window: not a sum, but by how much the largest n of each window has changed.
I: v starts at bias; the prediction is the largest, the lowest index among equals."""
# Deflate packs a thousand bytes into one at best; what promises more is made up.
MOST_PACKED, NO_BOMB = 1100, 1 << 20
_SIZED = {Neurons: "r", Sum: "scale"}
_ARRAYS = ("theta", "base", "bias")


def write(network: SpikingNetwork, path: Path | str) -> None:
    """Write the network as a NIR graph; atomic.

    Raises:
        InputError: the package nir is not installed, or a node is named ".", which HDF5 cannot.
    """
    nir, graph = package("nir"), build(network)
    with atomic_path(path) as temporary:
        nir.write(temporary, graph)


def read(path: Path | str) -> SpikingNetwork:
    """Read what :func:`write` wrote: the same nodes, the same integers. Nothing is unpickled.

    Raises:
        InputError: the file is missing, damaged, foreign, or its standard nodes say something else than their metadata.
    """
    h5py = package("h5py")
    package("nir")
    with foreign_file(path, "a NIR graph written by this package", "export it again"):
        try:
            with h5py.File(path, "r") as file:
                found = _tree(file["node"])
            text, arrays = found["metadata"]["negspike"], _arrays(found["nodes"])
            if storage.checksum(text, arrays) != found["metadata"]["checksum"]:
                raise InputError("its numbers do not match its checksum, it was altered; export it again")
            network = storage.assemble(text, arrays, SpikingNetwork)
            for node in network.nodes:  # before arrays of that size are made
                if (key := _SIZED.get(type(node))) and found["nodes"][node.name][key].size != prod(node.shape):
                    raise InputError(f"{node.name}: {key} is not of shape {node.shape}; export it again")
            _compare("graph", found, build(network).to_dict())
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
    return network


def build(network: SpikingNetwork) -> Any:
    """The ``nir.NIRGraph`` of a network.

    Raises:
        InputError: as :func:`write`.
    """
    builder = _Builder(network)
    for node in network.nodes:
        if node.name == ".":
            raise InputError("node '.': HDF5 has no such name; rename it")
        builder.add(node)
    header, arrays = storage.describe(network)
    text = json.dumps(header, sort_keys=True, allow_nan=False)
    metadata = {"negspike": text, "checksum": storage.checksum(text, arrays), "rules": RULES}
    return builder.nir.NIRGraph(builder.nodes, builder.edges, metadata=metadata, type_check=False)


class _Builder:
    """Nodes and edges. Vectors are flat where all that listens to them is, else (channels, 1, 1) as images are."""

    def __init__(self, network: SpikingNetwork) -> None:
        self.nir, self.network = package("nir"), network
        self.flat: set[str] = set()
        pools = {node.name for node in network.nodes if isinstance(node, MaxPool)}
        for name, shape in reversed(network.shapes.items()):
            listeners = network.listeners[name]
            if shape[1:] == (1, 1) and name not in pools and all(self._reads_flat(node, name) for node in listeners):
                self.flat.add(name)
        last, output = network.readout.name, f"{network.readout.name}:output"
        self.nodes = {
            INPUT: self.nir.Input({"input": self._shape(INPUT)}),
            output: self.nir.Output({"output": self._shape(last)}),
        }
        self.edges = [(last, output)]

    def _reads_flat(self, node: Node, source: str) -> bool:
        if isinstance(node, MaxPool) or node.name not in self.flat:
            return False
        heard = [one for one in node.synapses if one.source == source]
        points = [one.window.kernel == (1, 1) and one.window.padding == ((0, 0), (0, 0)) for one in heard]
        return all(points) and all(one.groups == 1 for one in heard)

    def _shape(self, name: str) -> np.ndarray:
        shape = self.network.shapes[name]
        return np.array(shape[:1] if name in self.flat else shape)

    def add(self, node: Node) -> None:
        """A node and all that leads to it."""
        shape = self._shape(node.name)
        if isinstance(node, MaxPool):
            kernel, padding, _ = _widened(node.window, self.network.shapes[node.source])
            metadata: dict[str, Any] = {"window": json.dumps(vars(node.window))}
            geometry = map(np.array, (kernel, node.window.stride, padding))
            self.nodes[node.name] = self.nir.SumPool2d(*geometry, metadata=metadata)
            self.edges.append((node.source, node.name))
            return
        for number, synapses in enumerate(node.synapses):
            self._synapses(f"{node.name}:{number}", synapses, node)
        if isinstance(node, Neurons):
            metadata = {"theta": node.theta, "base": node.base, "step": float(node.step)}
            metadata |= {key: getattr(node, key) for key in ("low", "high") if getattr(node, key) is not None}
            theta = _spread(node.theta, shape)
            self.nodes[node.name] = self.nir.IF(np.ones(shape), theta, np.zeros(shape), metadata=metadata)
        elif isinstance(node, Readout):
            metadata = {"bias": node.bias, "unit": float(node.unit)}
            self.nodes[node.name] = self.nir.I(np.ones(shape), metadata=metadata)
        else:
            self.nodes[node.name] = self.nir.Scale(np.ones(shape))

    def _synapses(self, name: str, synapses: Synapses, node: Node) -> None:
        """Choose channels, add up windows, multiply with weights, flatten, scale, place in channels."""
        source, window, weight = synapses.source, synapses.window, synapses.weight
        shape, flat = self.network.shapes[source], source in self.flat
        chain: dict[str, Any] = {}
        if synapses.channels is not None:
            chosen = np.zeros((synapses.inputs, shape[0]), np.float32)
            chosen[np.arange(synapses.inputs), synapses.channels] = 1
            chain["channels"] = self._matrix(chosen, shape, flat, {"channels": synapses.channels})
        shape = (synapses.inputs, *shape[1:])
        if not flat and (weight is None or synapses.shares_taps) and not window.is_point:
            chain["pool"], shape, window = self._pool(window, shape), (shape[0], *node.shape[1:]), Window()
        if weight is not None:
            dense = not flat and node.name in self.flat and synapses.groups == 1
            metadata = {"dtype": weight.dtype.name, "shape": np.array(weight.shape)}
            floats = weight.astype(np.float32)  # of 24 bits at most
            if dense and window == Window(shape[1:], window.stride, dilation=window.dilation):
                chain["flatten"], flat = self.nir.Flatten({"input": np.array(shape)}, 0, -1), True
                floats, shape = floats.reshape(len(floats), -1), (prod(shape), 1, 1)
            chain["weight"] = (
                self._matrix(floats.reshape(len(floats), -1), shape, True, metadata)
                if flat
                else self._convolution(floats, window, shape, synapses.groups, metadata)
            )
        shape = (synapses.outputs, *node.shape[1:])
        if node.name in self.flat and not flat:
            chain["flatten"], flat = self.nir.Flatten({"input": np.array(shape)}, 0, -1), True
        scale = _spread(synapses.scale, np.array(shape[:1] if flat else shape))
        chain["scale"] = self.nir.Scale(scale, metadata={"scale": synapses.scale})
        if synapses.targets is not None:
            placed = np.zeros((node.shape[0], synapses.outputs), np.float32)
            placed[synapses.targets, np.arange(synapses.outputs)] = 1
            chain["targets"] = self._matrix(placed, shape, flat, {"targets": synapses.targets})
        self.nodes |= {f"{name}:{part}": one for part, one in chain.items()}
        self.edges += pairwise([source, *(f"{name}:{part}" for part in chain), node.name])

    def _matrix(self, weight: np.ndarray, shape: Shape, flat: bool, metadata: dict[str, Any]) -> Any:
        """(O, I) over the channels, at every place."""
        if flat:
            return self.nir.Linear(weight, metadata=metadata)
        return self._convolution(weight[:, :, None, None], Window(), shape, 1, metadata)

    def _convolution(
        self, weight: np.ndarray, window: Window, shape: Shape, groups: int, metadata: dict[str, Any]
    ) -> Any:
        if all(before == after for before, after in window.padding):
            padding, dilation = [before for before, _ in window.padding], window.dilation
        else:
            kernel, padding, taps = _widened(window, shape)
            full = np.zeros((*weight.shape[:2], *kernel), np.float32)
            full[:, :, taps[0], taps[1]] = weight
            metadata = metadata | {"taps": np.array([[at.start, at.stop, at.step] for at in taps])}
            weight, dilation = full, (1, 1)
        geometry = [np.array(one) for one in (window.stride, padding, dilation)]
        return self.nir.Conv2d(shape[1:], weight, *geometry, groups, np.zeros(len(weight)), metadata=metadata)

    def _pool(self, window: Window, shape: Shape) -> Any:
        """Windows added up, by a convolution with ones where a pool cannot say which."""
        if window.dilation == (1, 1) and all(before == after for before, after in window.padding):
            padding = [before for before, _ in window.padding]
            return self.nir.SumPool2d(*map(np.array, (window.kernel, window.stride, padding)))
        return self._convolution(np.ones((shape[0], 1, *window.kernel), np.float32), window, shape, shape[0], {})


def _widened(window: Window, shape: Shape) -> tuple[list[int], list[int], list[slice]]:
    """A kernel without dilation and with equal padding on both sides that has as many windows, and its taps that count.

    The window lies within the larger one; what is around it and between its taps has to be zero.
    """
    kernel, padding, taps = [], [], []
    for axis, outputs in enumerate(window.out_size(*shape[1:])):
        both, dilation = max(window.padding[axis]), window.dilation[axis]
        first = both - window.padding[axis][0]
        stop = first + dilation * (window.kernel[axis] - 1) + 1
        one_window_more = shape[axis + 1] + 2 * both - window.stride[axis] * outputs
        kernel.append(max(stop, one_window_more + 1))
        padding.append(both)
        taps.append(slice(first, stop, dilation))
    return kernel, padding, taps


def _spread(values: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """(channels,) integers as float64 of a node's shape; exact below 2^53, and in the metadata in any case."""
    return np.broadcast_to(values.astype(np.float64).reshape(-1, *[1] * (len(shape) - 1)), shape).copy()


def _tree(group: Any) -> dict[str, Any]:
    """All of a group as dictionaries, text as text."""
    found: dict[str, Any] = {}
    for key, item in group.items():
        if hasattr(item, "items"):
            found[key] = _tree(item)
            continue
        if item.nbytes > NO_BOMB and item.nbytes > MOST_PACKED * item.id.get_storage_size():
            raise InputError(f"{item.name} promises more than the file holds; export it again")
        value = item[()]
        found[key] = value.decode() if isinstance(value, bytes) else value
    return found


def _arrays(nodes: Mapping[str, Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """The arrays of docs/format.md, each from its node."""
    arrays: dict[str, np.ndarray] = {}
    for name, node in nodes.items():
        owner, *rest = name.split(":")
        metadata = node.get("metadata", {})
        if len(rest) < 2:
            arrays |= {f"{owner}/{key}": metadata[key] for key in _ARRAYS if key in metadata}
        elif rest[1] == "weight":
            weight = node["weight"]
            if "taps" in metadata:
                weight = weight[:, :, *(slice(*map(int, taps)) for taps in metadata["taps"])]
            shape = tuple(map(int, metadata["shape"]))
            arrays["/".join((owner, *rest))] = weight.astype(metadata["dtype"]).reshape(shape)
        elif rest[1] in metadata:
            arrays["/".join((owner, *rest))] = metadata[rest[1]]
    return arrays


def _compare(where: str, found: Any, expected: Any) -> None:
    """Refuse a file whose standard nodes were changed without their metadata, or the other way round."""
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        wanted = {key: value for key, value in expected.items() if not (isinstance(value, Mapping) and not value)}
        if wanted.keys() != found.keys():
            raise InputError(f"{where} has {sorted(found)}, expected {sorted(wanted)}; export it again")
        for key, value in wanted.items():
            _compare(key if where in ("graph", "nodes") else f"{where}, {key}", found[key], value)
        return
    one, other = (np.asarray(value) for value in (found, expected))
    if not np.array_equal(one.astype(str) if one.dtype.kind == "O" else one, other):
        raise InputError(f"{where}: it is not what its metadata say; export it again")
