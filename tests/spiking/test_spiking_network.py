"""The stored network: bit for bit what was saved, or refused; what no network may be; proofs that nothing overflows."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import OneLine
from graphs import Graph, chain, examples, graphs
from hypothesis import given
from hypothesis import strategies as st
from oracle import Oracle

from negspike import SpikingNetwork, simulate
from negspike.errors import InputError
from negspike.spiking.bounds import check_potentials, largest_counts, reach
from negspike.spiking.linear import settled_int64
from negspike.spiking.nodes import INPUT, MaxPool, Neurons, Node, Readout, Sum, Synapses, Window

Members = dict[str, Any]


def ones(count: int) -> np.ndarray:
    return np.ones(count, np.int64)


def network() -> SpikingNetwork:
    """Convolution a, its sum with a residual b, max pool c, readout d: every kind of node and array."""
    random = np.random.default_rng(2)
    same = Window((3, 3), padding=((1, 1), (1, 1)))
    weights = [
        random.integers(-3000, 3000, shape).astype(np.int16) for shape in ((4, 1, 3, 3), (4, 2, 1, 1), (2, 4, 2, 2))
    ]
    a = Neurons("a", (4, 4, 4), (Synapses(INPUT, same, ones(4), weights[0]),), ones(4) << 27, -ones(4) << 25)
    both = (
        Synapses("a", same, ones(4) << 16, weights[1], groups=2),
        Synapses("a", Window(), ones(2) << 20, channels=np.array([3, 0]), targets=np.array([1, 2])),
    )
    b = Sum("b", (4, 4, 4), both)
    c = Neurons("c", (4, 4, 4), (Synapses("b", Window(), ones(4)),), ones(4) << 27, ones(4) << 20, -3, 15, 0.25)
    pool = MaxPool("pool", (4, 2, 2), "c", Window((2, 2), (2, 2)))
    readout = Readout("d", (2, 1, 1), (Synapses("pool", Window((2, 2)), ones(2), weights[2]),), np.array([5, -7]), 0.5)
    origin = {"net": "tiny", "seed": 3, "dataset": "digits", "data_checksum": "ab" * 32}
    return SpikingNetwork((1, 4, 4), (a, b, c, pool, readout), 16, origin)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    network().save(tmp_path / "spiking.npz")
    return tmp_path / "spiking.npz"


def members(path: Path) -> Members:
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def checksum(header: str, arrays: Members) -> str:
    """As docs/format.md has it: header, then name, type, shape and bytes of each array in order."""
    digest = sha256(header.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


def rewrite(path: Path, arrays: Members, right: bool = True) -> None:
    """Write a file as :meth:`SpikingNetwork.save` does, with a checksum that is right."""
    if right:
        rest = {name: array for name, array in arrays.items() if name not in ("header", "checksum")}
        arrays = arrays | {"checksum": np.array(checksum(str(arrays["header"]), rest))}
    np.savez(path, **arrays)


def change_header(arrays: Members, change: Callable[[dict[str, Any]], Any]) -> Members:
    header = json.loads(str(arrays["header"]))
    change(header)
    return arrays | {"header": np.array(json.dumps(header, sort_keys=True))}


def assert_same(found: SpikingNetwork, expected: SpikingNetwork) -> None:
    """Every number and its type."""
    assert (found.input_shape, found.weight_bits) == (expected.input_shape, expected.weight_bits)
    assert dict(found.origin) == dict(expected.origin)
    assert [type(node) for node in found.nodes] == [type(node) for node in expected.nodes]
    for node, other in zip(found.nodes, expected.nodes, strict=True):
        assert_same_fields(vars(node), vars(other))


def assert_same_fields(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for name in expected.keys() - {"largest_sums"}:
        value, stored = found[name], expected[name]
        assert type(value) is type(stored), name
        if isinstance(stored, np.ndarray):
            assert value.dtype == stored.dtype
            np.testing.assert_array_equal(value, stored)
        elif name == "synapses":
            for one, other in zip(value, stored, strict=True):
                assert_same_fields(vars(one), vars(other))
        else:
            assert value == stored, name


# --- saving and loading ---------------------------------------------------------------------------------------------


@examples(150)
@given(graph=graphs(images=1))
def test_round_trip(graph: Graph, tmp_path: Path) -> None:
    """Every integer, and the same file for the same network."""
    graph.network.save(tmp_path / "a.npz")
    loaded = SpikingNetwork.load(str(tmp_path / "a.npz"))
    assert_same(loaded, graph.network)
    loaded.save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert loaded.latency_bound == graph.network.latency_bound


def test_origin_is_kept(saved: Path) -> None:
    assert_same(SpikingNetwork.load(saved), network())
    assert str(members(saved)["checksum"]) == checksum(
        str(members(saved)["header"]),
        {name: array for name, array in members(saved).items() if name not in ("header", "checksum")},
    )


def test_a_file_of_format_1(tmp_path: Path) -> None:
    """As it was written before networks were graphs."""
    header = {
        **{"format": 1, "topology": "2", "input_shape": [1, 1, 1], "padding": "same", "width": 1.0, "classes": 2},
        **{"k": 1, "weight_bits": 16, "image_fraction_bits": 16, "threshold_extra_bits": 16},
        **{"classifier_exponent": 0, "origin": {}},
    }
    arrays: Members = {
        "weight0": np.ones((2, 1, 1, 1), np.int16),
        "exponent0": np.zeros(2, np.int32),
        "theta0": np.ones(2, np.int64),
        "base0": np.zeros(2, np.int64),
        "classifier": np.ones((2, 2), np.int16),
        "header": np.array(json.dumps(header, sort_keys=True)),
    }
    rewrite(tmp_path / "old.npz", arrays)
    with OneLine(InputError, "old.npz", "format 1", "reads 2", "convert again"):
        SpikingNetwork.load(tmp_path / "old.npz")


def test_every_truncation_is_refused(saved: Path, tmp_path: Path) -> None:
    content = saved.read_bytes()
    path = tmp_path / "short.npz"
    for length in [0, 1, 3, 10, 100, *range(200, len(content), 97), len(content) - 30, len(content) - 1]:
        path.write_bytes(content[:length])
        with OneLine(InputError, "short.npz"):
            SpikingNetwork.load(path)


def test_every_flipped_byte_of_the_numbers_is_noticed(saved: Path, tmp_path: Path) -> None:
    """Refused, or in a part of the zip archive that nothing depends on."""
    content = saved.read_bytes()
    path = tmp_path / "flipped.npz"
    random = np.random.default_rng(0)
    refused = 0
    for position in random.choice(len(content), 150, replace=False).tolist():
        flipped = bytearray(content)
        flipped[position] ^= 1 << int(random.integers(8))
        path.write_bytes(flipped)
        try:
            loaded = SpikingNetwork.load(path)
        except InputError as error:
            assert len(str(error).splitlines()) == 1 and "flipped.npz" in str(error)
            refused += 1
        else:
            assert_same(loaded, network())
    assert refused > 75


NAMES = ["a/theta", "c/base", "a/0/weight", "b/0/scale", "b/1/channels", "b/1/targets", "d/bias", "d/0/weight"]


@pytest.mark.parametrize("name", NAMES)
def test_altered_numbers(saved: Path, name: str) -> None:
    arrays = members(saved)
    arrays[name] = arrays[name].copy()
    arrays[name].flat[0] += 1
    rewrite(saved, arrays, right=False)
    with OneLine(InputError, "spiking.npz", "checksum", "altered"):
        SpikingNetwork.load(saved)


def test_altered_types_shapes_and_additions(saved: Path) -> None:
    original = members(saved)
    for changes in (
        {"a/theta": original["a/theta"].astype(np.int32)},
        {"a/0/weight": original["a/0/weight"].reshape(4, 1, 9, 1)},
        {"extra": np.zeros(1)},
        {"a/theta": original["c/theta"], "c/theta": original["a/theta"], "a/base": original["a/base"] + 1},
        change_header(original, lambda header: header.update(weight_bits=17)),
    ):
        rewrite(saved, original | changes, right=False)
        with OneLine(InputError, "spiking.npz", "checksum"):
            SpikingNetwork.load(saved)


@pytest.mark.parametrize("name", ["header", "checksum", *NAMES])
def test_missing_members(saved: Path, name: str) -> None:
    arrays = members(saved)
    del arrays[name]
    rewrite(saved, arrays, right=name != "header" and name != "checksum")
    # what is optional is missed in another way: then channels or windows do not fit
    with OneLine(InputError, "spiking.npz", {"b/1/channels": "4", "b/1/targets": "4"}.get(name, name.split("/")[0])):
        SpikingNetwork.load(saved)


def node_change(index: int, **changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda header: header["nodes"][index].update(changes)


def window_change(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda header: header["nodes"][0]["synapses"][0]["window"].update(changes)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda header: header.update(format=3), "format 3"),
        (lambda header: header.update(format="2"), "format '2'"),
        (lambda header: header.update(format=2.0), "format"),
        (lambda header: header.update(image_fraction_bits=17), "image_fraction_bits"),
        (lambda header: header.update(input_shape=[1, 4]), "input_shape"),
        (lambda header: header.update(input_shape=[1, 4.0, 4]), "input_shape"),
        (lambda header: header.update(input_shape="abc"), "input_shape"),
        (lambda header: header.update(input_shape=[2, 4, 4]), "a, synapse 0"),
        (lambda header: header.update(weight_bits=8), "wider than 8 bits"),
        (lambda header: header.update(weight_bits=40), "weight_bits is 40"),
        (lambda header: header.update(weight_bits=16.0), "weight_bits"),
        (lambda header: header.update(weight_bits=True), "weight_bits"),
        (lambda header: header.update(weight_bits=None), "weight_bits"),
        (lambda header: header.update(origin="abc"), "origin"),
        (lambda header: header["origin"].update(accuracy=float("nan")), "origin"),
        (lambda header: header["origin"].update(accuracy=[float("inf")]), "origin"),
        (lambda header: header.update(nodes={}), "nodes"),
        (lambda header: header.update(nodes=[]), "belongs to no node"),
        (lambda header: header.update(more=1), "more"),
        (lambda header: header.pop("weight_bits"), "weight_bits"),
        (lambda header: header["nodes"].pop(), "belongs to no node"),
        (lambda header: header["nodes"].reverse(), "d, synapse 0"),
        (node_change(0, kind="neuron"), "nodes.0"),
        (node_change(0, kind=["neurons"]), "nodes.0"),
        (node_change(0, name=7), "nodes.0.neurons.name"),
        (node_change(0, shape=[4, 4, True]), "nodes.0.neurons.shape"),
        (node_change(0, shape=[4, 4, 5]), "a, synapse 0"),
        (node_change(0, low=0.0), "nodes.0.neurons.low"),
        (node_change(0, low=1), "bounds 1"),
        (node_change(0, high=2**31), "32 bits"),
        (node_change(0, step=0), "step"),
        (node_change(0, step="1"), "step"),
        (node_change(0, more=0), "more"),
        (node_change(0, synapses=[]), "belongs to no node"),
        (node_change(3, source="b"), "'b'"),
        (node_change(3, source="d"), "'d'"),
        (node_change(3, source=None), "source"),
        (node_change(4, unit=-1.0), "unit"),
        (lambda header: header["nodes"][0].pop("step"), "step"),
        (lambda header: header["nodes"][1]["synapses"][0].update(groups=0), "b, synapse 0"),
        (lambda header: header["nodes"][1]["synapses"][0].update(groups=2.0), "groups"),
        (lambda header: header["nodes"][1]["synapses"][0].update(groups=10**30), "b, synapse 0"),
        (lambda header: header["nodes"][2]["synapses"][0].update(groups=2), "c, synapse 0: 2 groups"),
        (window_change(kernel=[3]), "kernel"),
        (window_change(kernel=[3, 3.0]), "kernel"),
        (window_change(stride=[0, 1]), "at least 1"),
        (window_change(stride=[1, 2]), "windows over 4x4"),
        (window_change(padding=[[1, 1], [1, -1]]), "at least 0"),
        (window_change(padding=[1, 1]), "padding"),
        (window_change(padding=[[10**30, 1], [1, 1]]), "windows over 4x4"),
        (window_change(dilation=[1, 0]), "at least 1"),
        (window_change(more=1), "more"),
    ],
)
def test_other_headers(saved: Path, change: Callable[[dict[str, Any]], Any], word: str) -> None:
    """With a checksum that is right, as of a file that another program wrote."""
    rewrite(saved, change_header(members(saved), change))
    with OneLine(InputError, "spiking.npz", word):
        SpikingNetwork.load(saved)


@pytest.mark.parametrize("header", ["[]", "7", "null", "{", "", '{"format": 2}', '{"format": {}}', "[" * 100_000])
def test_headers_that_are_none(saved: Path, header: str) -> None:
    rewrite(saved, members(saved) | {"header": np.array(header)})
    with OneLine(InputError, "spiking.npz"):
        SpikingNetwork.load(saved)


@pytest.mark.parametrize(
    ("name", "change", "word"),
    [
        ("a/theta", lambda array: array.astype(np.int32), "int32"),
        ("a/theta", lambda array: array.astype(np.float64), "float64"),
        ("a/theta", lambda array: array * 0, "threshold"),
        ("a/theta", lambda array: -array, "threshold"),
        ("a/base", lambda array: array.astype(">i8"), ">i8"),
        ("c/base", lambda array: array[:-1], "(3,)"),
        ("a/0/weight", lambda array: array.astype(np.uint16), "uint16"),
        ("a/0/weight", lambda array: array.astype(np.int64), "int64"),
        ("a/0/weight", lambda array: array * 0 - np.int16(2**15 - 1) - np.int16(1), "wider than 16 bits"),
        ("a/0/weight", lambda array: array[0], "(1, 3, 3)"),
        ("a/0/weight", lambda array: array[:3], "3 outputs"),
        ("a/0/weight", lambda array: array[:, :0], "no channels"),
        ("a/0/scale", lambda array: array[:3], "3 scales"),
        ("a/0/scale", lambda array: array.astype(np.int32), "int32"),
        ("a/0/scale", lambda array: array[:, None], "(4, 1)"),
        ("b/1/channels", lambda array: array + 1, "from 0 to 3"),
        ("b/1/channels", lambda array: array - 1, "from 0 to 3"),
        ("b/1/channels", lambda array: array.astype(np.int32), "int32"),
        ("b/1/targets", lambda array: array * 0, "twice"),
        ("b/1/targets", lambda array: array + 9, "from 0 to 3"),
        ("b/1/targets", lambda array: array[:1], "(1,)"),
        ("d/0/weight", lambda array: array[..., :1], "(2, 4, 2, 1)"),
        ("d/bias", lambda array: array.astype(np.int32), "int32"),
        ("d/bias", lambda array: array[:1], "(1,)"),
    ],
)
def test_other_arrays(saved: Path, name: str, change: Callable[[np.ndarray], np.ndarray], word: str) -> None:
    arrays = members(saved)
    rewrite(saved, arrays | {name: change(arrays[name])})
    with OneLine(InputError, "spiking.npz", word):
        SpikingNetwork.load(saved)


def test_compressed_files(saved: Path) -> None:
    """No compressed member is unpacked, so that a small file cannot fill the memory."""
    np.savez_compressed(saved, **members(saved))
    with OneLine(InputError, "spiking.npz", "compressed"):
        SpikingNetwork.load(saved)


def test_foreign_files(tmp_path: Path, saved: Path) -> None:
    path = tmp_path / "foreign.npz"
    with OneLine(InputError, "foreign.npz", "no such file"):
        SpikingNetwork.load(path)
    np.savez(path, images=np.zeros(3))
    with OneLine(InputError, "foreign.npz", "header"):
        SpikingNetwork.load(path)
    with open(path, "wb") as stream:
        np.save(stream, np.zeros(3))
    with OneLine(InputError, "foreign.npz"):
        SpikingNetwork.load(path)
    path.write_text("two\nlines")
    with OneLine(InputError, "foreign.npz"):
        SpikingNetwork.load(path)
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("header", "checksum", "notes.txt"):
            archive.writestr(name, "text")
    with OneLine(InputError, "foreign.npz"):
        SpikingNetwork.load(path)
    with OneLine(InputError, str(tmp_path)):
        SpikingNetwork.load(tmp_path)
    # a member that is no array beside those that are
    with zipfile.ZipFile(saved, "a") as archive:
        archive.writestr("notes.txt", "text")
    with OneLine(InputError, "spiking.npz"):
        SpikingNetwork.load(saved)


def test_a_member_that_promises_too_much(saved: Path) -> None:
    """A header of an array of 2^60 numbers, with 8 bytes behind it."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<i8", "fortran_order": False, "shape": (2**60,)})
    with zipfile.ZipFile(saved, "a") as archive:
        archive.writestr("huge.npy", stream.getvalue() + bytes(8))
    with OneLine(InputError, "spiking.npz"):
        SpikingNetwork.load(saved)


@pytest.mark.parametrize("name", ["a/theta.npy", "a/theta"])
def test_an_array_that_is_there_twice(saved: Path, name: str) -> None:
    """The second would be taken for the first."""
    content = zipfile.ZipFile(saved).read("a/theta.npy")
    with zipfile.ZipFile(saved, "a") as archive, pytest.warns() if name == "a/theta.npy" else nullcontext():
        archive.writestr(name, content)
    with OneLine(InputError, "spiking.npz", "'a/theta' is there twice"):
        SpikingNetwork.load(saved)


def test_bytes_behind_an_array(saved: Path) -> None:
    """The checksum would not know of them."""
    with zipfile.ZipFile(saved) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(saved, "w") as archive:
        for name in content:
            archive.writestr(name, content[name] + bytes(8 * (name == "a/theta.npy")))
    with OneLine(InputError, "spiking.npz", "'a/theta.npy' is longer or shorter"):
        SpikingNetwork.load(saved)


class Bomb:
    """Unpickling it would run code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was loaded",))


@pytest.mark.parametrize("name", ["a/theta", "header", "other"])
def test_pickles_are_refused(saved: Path, name: str) -> None:
    arrays = members(saved)
    objects = np.empty(1, object)
    objects[0] = Bomb()
    np.savez(saved, **(arrays | {name: objects}))
    with OneLine(InputError, "spiking.npz", "Python objects"):
        SpikingNetwork.load(saved)


def test_failed_save_leaves_the_old_file(saved: Path) -> None:
    before = saved.read_bytes()
    with pytest.raises(TypeError):
        replace(network(), origin={"net": object()}).save(saved)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["spiking.npz"]


def test_loading_needs_no_training_code(saved: Path) -> None:
    code = (
        "import sys; from negspike import SpikingNetwork; SpikingNetwork.load(sys.argv[1]);"
        "assert not {'negspike.training.phase', 'negspike.training.network', 'sklearn', 'matplotlib', 'snakemake'}"
        " & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(saved)], check=True)


# --- validation -----------------------------------------------------------------------------------------------------


def changed(index: int, **changes: Any) -> SpikingNetwork:
    """The network with other attributes of one node."""
    nodes = list(network().nodes)
    nodes[index] = replace(nodes[index], **changes)
    return replace(network(), nodes=tuple(nodes))


def first_synapses(index: int, **changes: Any) -> SpikingNetwork:
    node = network().nodes[index]
    assert not isinstance(node, MaxPool)
    return changed(index, synapses=(replace(node.synapses[0], **changes), *node.synapses[1:]))


def without(index: int) -> SpikingNetwork:
    nodes: list[Node] = list(network().nodes)
    del nodes[index]
    return replace(network(), nodes=tuple(nodes))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: replace(network(), weight_bits=1), ("weight_bits is 1", "2 to 24")),
        (lambda: replace(network(), weight_bits="16"), ("weight_bits is '16'", "2 to 24")),  # type: ignore[arg-type]
        (lambda: replace(network(), input_shape=(1, 4)), ("input", "(1, 4)", "(channels,")),  # type: ignore[arg-type]
        (lambda: replace(network(), input_shape=(1, 4, 0)), ("input", "at least 1")),
        (lambda: replace(network(), input_shape=(1, 2**20, 2**20)), ("input", "too many")),
        (lambda: replace(network(), nodes=()), ("one readout",)),
        (lambda: without(4), ("one readout",)),
        (lambda: without(0), ("b, synapse 0", "'a'", "before it")),
        (lambda: replace(network(), nodes=network().nodes[::-1]), ("d, synapse 0", "'pool'", "before it")),
        (lambda: replace(network(), nodes=(*network().nodes, network().nodes[3])), ("'pool'", "occurs once")),
        (lambda: changed(0, name="a/b"), ("'a/b'", "letters")),
        (lambda: changed(0, name=""), ("''", "letters")),
        (lambda: changed(0, name="input"), ("'input'", "occurs once")),
        (lambda: changed(0, name=3), ("node 3", "letters")),
        (lambda: changed(0, shape=(4, 4.0, 4)), ("a", "(4, 4.0, 4)")),
        (lambda: changed(0, synapses=()), ("a", "listens to nothing")),
        (lambda: changed(0, theta=np.ones(3, np.int64)), ("a: theta", "(3,)", "(4,)")),
        (lambda: changed(0, theta=[1, 1, 1, 1]), ("a: theta", "list")),
        (lambda: changed(0, theta=ones(4) * 0), ("a", "threshold", "below 1")),
        (lambda: changed(0, base=np.zeros(4)), ("a: base", "float64", "int64")),
        (lambda: changed(0, low=1), ("a", "bounds 1 and None", "0 between")),
        (lambda: changed(2, high=-1), ("c", "bounds -3 and -1", "0 between")),
        (lambda: changed(2, high=15.0), ("c", "15.0", "whole number")),
        (lambda: changed(2, high=True), ("c", "True", "whole number")),
        (lambda: changed(2, high=1 << 31), ("c", "32 bits")),
        (lambda: changed(2, step=0.0), ("c", "step is 0.0")),
        (lambda: changed(2, step=float("nan")), ("c", "step is nan")),
        (lambda: changed(2, step=float("inf")), ("c", "step is inf")),
        (lambda: changed(3, source=INPUT), ("pool", "max pool", "'input'")),
        (lambda: changed(3, source="b"), ("pool", "max pool", "'b'")),
        (lambda: changed(3, shape=(3, 2, 2)), ("pool", "3 channels", "4")),
        (lambda: changed(3, shape=(4, 2, 3)), ("pool", "windows over 4x4", "(2, 2)", "(2, 3)")),
        (
            lambda: changed(3, window=Window((1, 1), (5, 5), ((1, 1), (1, 5)))),
            ("pool", "nothing but padding"),
        ),
        (
            lambda: changed(3, window=Window((2, 2), (3, 3), ((0, 0), (1, 0)), (3, 5)), shape=(4, 1, 1)),
            ("pool", "windows over 4x4"),
        ),
        (
            lambda: changed(3, window=Window((1, 2), padding=((0, 0), (1, 1)), dilation=(1, 5)), shape=(4, 4, 1)),
            ("pool", "nothing but padding"),
        ),
        (lambda: changed(4, shape=(2, 1, 2)), ("d", "synapse 0")),
        (lambda: changed(4, unit=0.0), ("d", "unit above 0")),
        (lambda: replace(network(), image_fraction_bits=17), ("image_fraction_bits is 17", "0 to 16")),
        (lambda: replace(network(), image_fraction_bits="16"), ("image_fraction_bits is '16'",)),  # type: ignore[arg-type]
        (lambda: first_synapses(0, groups=1.0), ("a, synapse 0", "groups are 1.0")),
        (lambda: first_synapses(0, window=None), ("a, synapse 0", "window is None")),
        (lambda: changed(3, shape=(4, 1, (1 << 24) + 1)), ("pool", "at most 16,777,216")),
        (lambda: changed(4, unit=float("inf")), ("d", "unit above 0")),
        (lambda: changed(4, bias=np.zeros(2, np.int32)), ("d: bias", "int32", "int64")),
        (lambda: first_synapses(0, source="zz"), ("a, synapse 0", "'zz'", "before it")),
        (lambda: first_synapses(0, source="d"), ("a, synapse 0", "'d'", "before it")),
        (lambda: first_synapses(0, scale=np.ones(4)), ("a, synapse 0: scale", "float64")),
        (lambda: first_synapses(0, scale=np.int64(1)), ("a, synapse 0: scale",)),
        (lambda: first_synapses(0, weight=np.ones((4, 1, 2, 3), np.int16)), ("a, synapse 0", "(4, 1, 2, 3)", "(3, 3)")),
        (lambda: first_synapses(0, weight=np.ones((4, 2, 3, 3), np.int16)), ("a, synapse 0", "2 channels", "1")),
        (lambda: first_synapses(0, weight=None), ("a, synapse 0", "4 channels", "1")),
        (lambda: first_synapses(0, weight=np.full((4, 1, 3, 3), 1 << 15, np.int32)), ("wider than 16 bits",)),
        (lambda: first_synapses(0, groups=3), ("a, synapse 0", "3 groups")),
        (lambda: first_synapses(0, window=Window((3, 3))), ("a, synapse 0", "windows over 4x4", "(2, 2)")),
        (lambda: first_synapses(0, window=Window((3, 3), (1, 1.0), ((1, 1), (1, 1)))), ("a, synapse 0", "at least 1")),  # type: ignore[arg-type]
        (lambda: first_synapses(2, window=Window((1, 1), padding=((1, 0), (0, 1)))), ("c, synapse 0", "windows")),
        (
            lambda: first_synapses(2, window=Window((3, 3), padding=((1, 1), (1, 1)))),
            ("c, synapse 0", "a sum is read point by point"),
        ),
        (
            lambda: first_synapses(2, weight=np.ones((4, 4, 1, 1), np.int16)),
            ("c, synapse 0", "a sum is read point by point", "without weights"),
        ),
        (lambda: first_synapses(2, channels=np.arange(3)), ("c, synapse 0: channels", "(3,)", "(4,)")),
        (lambda: first_synapses(2, channels=np.arange(4) + 1), ("c, synapse 0", "channels", "0 to 3")),
        (lambda: first_synapses(2, targets=np.array([0, 1, 2, 2])), ("c, synapse 0", "target", "twice")),
        (lambda: first_synapses(2, targets=np.arange(4) - 1), ("c, synapse 0", "targets", "0 to 3")),
    ],
)
def test_networks_that_cannot_be(make: Callable[[], SpikingNetwork], words: tuple[str, ...]) -> None:
    with OneLine(InputError, *words):
        make()


def test_a_max_pool_with_huge_windows_takes_no_memory() -> None:
    size = 1 << 24
    a = Neurons("a", (1, 1, 1), (Synapses(INPUT, Window(), ones(1)),), ones(1), ones(1))
    window = Window((1, size), padding=((0, 0), (size - 1, size - 1)))
    scale = Synapses("pool", Window((1, size)), ones(1))
    made = SpikingNetwork(
        (1, 1, 1), (a, MaxPool("pool", (1, 1, size), "a", window), Readout("d", (1, 1, 1), (scale,), ones(1))), 2
    )
    assert made.neurons == 1


def test_a_weight_that_16_bits_hold_on_one_side_alone() -> None:
    """-2^15, whose absolute value int16 does not have."""
    weight = np.array([-(1 << 15), 1], np.int16).reshape(2, 1, 1, 1)
    synapses = Synapses(INPUT, Window(), ones(2), weight)
    assert SpikingNetwork((1, 1, 1), (Readout("d", (2, 1, 1), (synapses,), ones(2)),), 17).largest_weight_bits == 17


def test_counts_that_are_compared_fit_the_network() -> None:
    made, images = network(), np.zeros((2, 1, 4, 4))
    counts = {one.name: np.zeros((2, *one.shape), np.int64) for one in made.populations}
    made.compare(images, counts)
    for wrong in (np.zeros((2, 1, 1, 1), np.int64), np.zeros((3, 4, 4, 4), np.int64), np.zeros((2, 4, 4, 4)), None):
        with OneLine(InputError, "counts of a", "(2, 4, 4, 4)"):
            made.compare(images, {**counts, "a": wrong})  # type: ignore[dict-item]
    with OneLine(InputError, "no node 'z'", "a, b"):
        made.node("z")


def test_latency_bound() -> None:
    """The longest path: 0 to 3 steps each, max pools and sums take none."""
    assert network().latency_bound is None
    bounded = changed(0, high=7)
    assert bounded.latency_bound == 7 + (15 + 3)
    assert "at most 25 time steps" in repr(bounded)
    assert "not bounded" in repr(network())


@pytest.mark.parametrize("shape", [(1, 4, 4), (2, 4, 4), (2, 1, 5, 4), (2, 2, 4, 4), (2, 16), (0, 1, 4, 5)])
def test_images_of_another_shape(shape: tuple[int, ...]) -> None:
    made = network()
    for use in (made.encode, made.activations):
        with OneLine(InputError, str(shape), "(N, 1, 4, 4)"):
            use(np.zeros(shape))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 2.0**47, -(2.0**47)])
def test_images_with_other_values(value: float) -> None:
    images = np.zeros((3, 1, 4, 4))
    images[1, 0, 2, 3] = value
    for use in (network().encode, network().activations):
        with OneLine(InputError, "images", "value"):
            use(images)


def test_images_are_rounded_half_to_even() -> None:
    images = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 0.49, 0.51, 1e-9] * 2).reshape(1, 1, 4, 4) / 2**16
    assert network().encode(images).ravel().tolist() == [0, 2, 2, 0, -2, 0, 1, 0] * 2


# --- no potential overflows -----------------------------------------------------------------------------------------


def check_run(made: SpikingNetwork, encoded: np.ndarray, timesteps: int) -> None:
    check_potentials(made, timesteps=timesteps, largest_pixel=int(np.abs(encoded).max()))


large = st.integers(0, 62).map(lambda bits: 1 << bits)


@examples(300)
@given(
    weight=st.integers(1, 2**23 - 1),
    inputs=st.integers(1, 40),
    theta=large,
    base=large,
    sign=st.sampled_from([-1, 1]),
    pixel=st.integers(0, 46),
    timesteps=st.integers(1, 2**31),
    k=st.integers(0, 8),
)
def test_check_potentials_is_a_proof(
    weight: int, inputs: int, theta: int, base: int, sign: int, pixel: int, timesteps: int, k: int
) -> None:
    """Whenever it passes, every number of the extreme case stays within 64 bits, in Python's integers."""
    made = chain(
        f"{inputs}-1",
        (1, 1, 1),
        [[weight] * inputs, [weight] * inputs],
        [theta] * 2,
        [sign * base] * 2,
        [[1], [weight]],
        k,
    )
    encoded = made.encode(np.full((1, 1, 1, 1), 2.0**pixel))
    try:
        check_run(made, encoded, timesteps)
    except InputError as error:
        assert len(str(error).splitlines()) == 1
        return
    limit = 1 << 63
    # the first layer sees the pixel once; the second one spike of every input in every step
    for z, shift in ((weight * int(encoded.max()), k), (weight * inputs * timesteps, 16)):
        for potential in (z, -z):
            for n in (0, timesteps):
                residual = (potential << shift) - sign * base - n * theta
                compared = sign * base + (n + 1) * theta
                assert all(-limit <= number < limit for number in (potential << shift, residual, compared))
                assert -limit <= residual - theta < residual + theta < limit or n == timesteps
    assert weight * timesteps < 1 << 53
    assert timesteps < 1 << 31


def test_overflowing_runs_are_refused() -> None:
    limit = 2**23 - 1
    made = chain("1-1", (1, 1, 1), [[limit], [limit]], [1 << 36] * 2, [0, 0], [[1], [2]])
    images = np.ones((1, 1, 1, 1))
    check_run(made, made.encode(images), 10**6)
    with OneLine(InputError, "layer1", "64 bits", str(2**25)):
        simulate(made, images, timesteps=2**25)
    with OneLine(InputError, "layer0", "64 bits"):
        simulate(made, images * 2.0**46, timesteps=10)
    wide = chain("1", (1, 1, 1), [[1]], [1], [0], [[limit], [2]])
    with OneLine(InputError, "classifier", "53 bits"):
        simulate(wide, images, timesteps=2**30 + 2**8)
    with OneLine(InputError, "timesteps", "32 bits"):
        simulate(chain("1", (1, 1, 1), [[1]], [1], [0], [[1], [2]]), images, timesteps=2**31)


def test_the_most_negative_base() -> None:
    """Whose absolute value 64 bits cannot hold."""
    made = chain("1", (1, 1, 1), [[1]], [1], [-(2**63)], [[0], [1]])
    images = np.ones((1, 1, 1, 1))
    with OneLine(InputError, "layer0"):
        check_run(made, made.encode(images), 1)
    with OneLine(InputError, "layer0"):
        made.activations(images)
    synapses = made.populations[0].synapses[0]
    node = replace(made.populations[0], synapses=(replace(synapses, scale=np.array([-(2**63)])),), base=ones(1))
    made = SpikingNetwork((1, 1, 1), (node, made.readout), 24)
    with OneLine(InputError, "layer0"):
        check_run(made, made.encode(images), 1)


@examples(200)
@given(
    weight=st.integers(1, 2**23 - 1),
    theta=large,
    base=large,
    sign=st.sampled_from([-1, 1]),
    pixel=st.floats(-(2.0**46), 2.0**46) | st.floats(-10, 10),
    k=st.integers(0, 8),
)
def test_activations_are_exact_or_refused(weight: int, theta: int, base: int, sign: int, pixel: float, k: int) -> None:
    """Two layers and the classifier, in Python's integers."""
    made = chain("1-1", (1, 1, 1), [[weight], [-weight]], [theta] * 2, [sign * base, -sign * base], [[1], [weight]], k)
    image = np.full((1, 1, 1, 1), pixel)
    try:
        found = list(made.activations(image).values())
    except InputError as error:
        assert "64-bit" in str(error)
        return
    first = max(0, ((weight * int(made.encode(image).item()) << k) - sign * base) // theta)
    second = max(0, ((-weight * first << 16) + sign * base) // theta)
    assert [array.item() for array in found[:-1]] == [first, second]
    assert found[-1].tolist() == [[second, weight * second]]


def test_large_activations_are_not_wrapped() -> None:
    for classifier, message in (([[1], [2]], None), ([[1], [2**23 - 1]], "classifier")):
        made = chain("1", (1, 1, 1), [[1]], [1], [0], classifier, k=8)
        image = np.full((1, 1, 1, 1), 2.0**37)
        if message is None:
            assert [array.tolist() for array in made.activations(image).values()] == [[[[[2**61]]]], [[2**61, 2**62]]]
        else:
            with OneLine(InputError, message, "64-bit"):
                made.activations(image)


def test_large_activations_between_small_ones() -> None:
    """What takes the way without floats is read by products of small digits, which want channels last."""
    random = np.random.default_rng(0)
    weight = random.integers(1, 100, (2, 2, 3, 3)).astype(np.int16)
    first = Synapses(INPUT, Window(), ones(2), np.ones((2, 1, 1, 1), np.int16))
    a = Neurons("a", (2, 6, 6), (first,), ones(2) << 10, 0 * ones(2), 0, None)
    second = Synapses("a", Window((3, 3)), ones(2) << 16, weight)
    b = Neurons("b", (2, 4, 4), (second,), (100 * ones(2)) << 16, 0 * ones(2), 0, 15)
    last = random.integers(-100, 100, (3, 2, 4, 4)).astype(np.int16)
    readout = Readout("r", (3, 1, 1), (Synapses("b", Window((4, 4)), ones(3), last),), 0 * ones(3))
    made = SpikingNetwork((1, 6, 6), (a, b, readout), 16)
    small = abs(random.normal(size=(1, 1, 6, 6))) * 0.01
    large = small.copy()
    large[0, 0, 0, 0] = -(2.0**45)
    for images in (small, large, small):
        values = {INPUT: made.encode(images)}
        for node in (a, b, readout):
            values[node.name] = settled_int64(node, values)
        found = made.activations(images)
        for name in ("a", "b"):
            np.testing.assert_array_equal(found[name], values[name], name)
        np.testing.assert_array_equal(found["r"], values["r"][:, :, 0, 0])


@examples(150)
@given(graph=graphs(images=2))
def test_bounds_of_graphs(graph: Graph) -> None:
    """What the proof adds up to is never less than what a run of plain integers comes to."""
    network, timesteps = graph.network, graph.timesteps
    encoded = network.encode(graph.images)
    most = largest_counts(network, timesteps=timesteps, largest_pixel=int(np.abs(encoded).max()))
    oracle = Oracle(network)
    for image in graph.images:
        result = oracle.simulate(image, timesteps)
        for node in network.nodes:
            if not isinstance(node, MaxPool):
                assert result.largest[node.name] <= reach(node, most)
        for name, counts in result.counts.items():
            assert max(map(abs, counts)) <= most[name]


def test_time_steps_of_max_pools() -> None:
    """One of the engines compares counts in float32."""
    with OneLine(InputError, "timesteps is 16777216", "24 bits"):
        check_run(network(), np.ones(1, np.int64), 2**24)
    check_run(network(), np.ones(1, np.int64), 2**24 - 1)
