"""A spiking network as a file: an ``.npz`` of integers with a JSON header and a checksum (docs/format.md)."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError

from negspike.errors import InputError, foreign_file
from negspike.files import atomic_path
from negspike.fixed_point import IMAGE_FRACTION_BITS
from negspike.spiking.nodes import MaxPool, Neurons, Node, Readout, Shape, Sum, Synapses, Window

if TYPE_CHECKING:
    from negspike.spiking.graph import SpikingNetwork

FORMAT = 2
_Pair = tuple[int, int]


class _Entry(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class _Window(_Entry):
    kernel: _Pair
    stride: _Pair
    padding: tuple[_Pair, _Pair]
    dilation: _Pair

    def read(self) -> Window:
        return Window(self.kernel, self.stride, self.padding, self.dilation)


class _Synapses(_Entry):
    source: str
    window: _Window
    groups: int


class _Neurons(_Entry):
    kind: Literal["neurons"]
    name: str
    shape: Shape
    synapses: list[_Synapses]
    low: int | None
    high: int | None
    step: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _MaxPool(_Entry):
    kind: Literal["max_pool"]
    name: str
    shape: Shape
    source: str
    window: _Window


class _Sum(_Entry):
    kind: Literal["sum"]
    name: str
    shape: Shape
    synapses: list[_Synapses]


class _Readout(_Entry):
    kind: Literal["readout"]
    name: str
    shape: Shape
    synapses: list[_Synapses]
    unit: Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _writable(origin: dict[str, Any]) -> dict[str, Any]:
    json.dumps(origin, allow_nan=False)
    return origin


class _Header(_Entry):
    format: int
    image_fraction_bits: Annotated[int, Field(ge=0, le=IMAGE_FRACTION_BITS)]
    input_shape: Shape
    weight_bits: int
    nodes: list[Annotated[_Neurons | _MaxPool | _Sum | _Readout, Field(discriminator="kind")]]
    origin: Annotated[dict[str, JsonValue], AfterValidator(_writable)]


_KINDS = {Neurons: "neurons", MaxPool: "max_pool", Sum: "sum", Readout: "readout"}


def describe(network: SpikingNetwork) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The header of a network and its arrays by name (docs/format.md)."""
    arrays: dict[str, np.ndarray] = {}
    entries = []
    for node in network.nodes:
        entry: dict[str, Any] = {"kind": _KINDS[type(node)], "name": node.name, "shape": node.shape}
        if isinstance(node, MaxPool):
            entry |= {"source": node.source, "window": vars(node.window)}
        else:
            entry["synapses"] = []
            for number, synapses in enumerate(node.synapses):
                entry["synapses"].append(
                    {"source": synapses.source, "window": vars(synapses.window), "groups": synapses.groups}
                )
                for name in ("scale", "weight", "channels", "targets"):
                    if getattr(synapses, name) is not None:
                        arrays[f"{node.name}/{number}/{name}"] = getattr(synapses, name)
        if isinstance(node, Neurons):
            entry |= {"low": node.low, "high": node.high, "step": float(node.step)}
            arrays |= {f"{node.name}/theta": node.theta, f"{node.name}/base": node.base}
        if isinstance(node, Readout):
            entry["unit"] = float(node.unit)
            arrays[f"{node.name}/bias"] = node.bias
        entries.append(entry)
    return {
        "format": FORMAT,
        "image_fraction_bits": network.image_fraction_bits,
        "input_shape": network.input_shape,
        "weight_bits": network.weight_bits,
        "nodes": entries,
        "origin": dict(network.origin),
    }, arrays


def save(network: SpikingNetwork, path: Path | str) -> None:
    """Write a network; atomic. See :meth:`negspike.SpikingNetwork.save`."""
    header, arrays = describe(network)
    text = json.dumps(header, sort_keys=True, allow_nan=False)
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        members = {"header": np.array(text), "checksum": np.array(checksum(text, arrays))} | arrays
        np.savez(stream, **members)  # type: ignore[arg-type]


def load(path: Path | str, network: type[SpikingNetwork]) -> SpikingNetwork:
    """Read what :func:`save` wrote; nothing is unpickled. See :meth:`negspike.SpikingNetwork.load`."""
    with foreign_file(path, "a spiking network written by this package", "convert again"):
        try:
            return _read(Path(path), network)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error


def _read(path: Path, network: type[SpikingNetwork]) -> SpikingNetwork:
    with zipfile.ZipFile(path) as archive:
        # Uncompressed, as they are written, no header can promise more than the file holds.
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise InputError("its arrays are compressed, which this package never does; convert again")
        arrays: dict[str, np.ndarray] = {}
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name in arrays:
                raise InputError(f"array {name!r} is there twice; convert again")
            arrays[name] = _array(archive, member)
    text, expected = str(arrays.pop("header")), str(arrays.pop("checksum"))
    found = json.loads(text)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        found = found.get("format") if isinstance(found, dict) else None
        raise InputError(f"format {found!r}, this version reads {FORMAT}; convert again")
    if expected != checksum(text, arrays):
        raise InputError("its numbers do not match its checksum, it was altered; convert again")
    return assemble(text, arrays, network)


def assemble(text: str, arrays: dict[str, np.ndarray], network: type[SpikingNetwork]) -> SpikingNetwork:
    """The network of a header in JSON and the arrays of :func:`describe`, which it takes out of the dictionary.

    Raises:
        InputError: they do not fit together.
    """
    try:
        header = _Header.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"header {'.'.join(map(str, first['loc']))}: {first['msg']}; convert again") from error
    nodes = tuple(_node(entry, arrays) for entry in header.nodes)
    if arrays:
        raise InputError(f"array {next(iter(arrays))!r} belongs to no node; convert again")
    return network(header.input_shape, nodes, header.weight_bits, header.origin, header.image_fraction_bits)


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            raise InputError(f"array {member.filename!r} has format {version}; convert again")
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        size = dtype.itemsize
        for extent in shape:
            size *= extent
        if dtype.hasobject:
            raise InputError(
                f"array {member.filename!r} holds Python objects, which are never unpickled; convert again"
            )
        if size != member.file_size - stream.tell():
            raise InputError(f"array {member.filename!r} is longer or shorter than its header says; convert again")
    with archive.open(member) as stream:
        array: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def _node(entry: _Neurons | _MaxPool | _Sum | _Readout, arrays: dict[str, np.ndarray]) -> Node:
    if isinstance(entry, _MaxPool):
        return MaxPool(entry.name, entry.shape, entry.source, entry.window.read())
    synapses = tuple(
        Synapses(
            one.source,
            one.window.read(),
            arrays.pop(f"{entry.name}/{number}/scale"),
            arrays.pop(f"{entry.name}/{number}/weight", None),
            one.groups,
            arrays.pop(f"{entry.name}/{number}/channels", None),
            arrays.pop(f"{entry.name}/{number}/targets", None),
        )
        for number, one in enumerate(entry.synapses)
    )
    if isinstance(entry, _Sum):
        return Sum(entry.name, entry.shape, synapses)
    if isinstance(entry, _Readout):
        return Readout(entry.name, entry.shape, synapses, arrays.pop(f"{entry.name}/bias"), entry.unit)
    theta, base = arrays.pop(f"{entry.name}/theta"), arrays.pop(f"{entry.name}/base")
    return Neurons(entry.name, entry.shape, synapses, theta, base, entry.low, entry.high, entry.step)


def checksum(header: str, arrays: Mapping[str, np.ndarray]) -> str:
    """Of a header in JSON and the arrays of a network, as docs/format.md says."""
    digest = hashlib.sha256(header.encode())
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype.str} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()
