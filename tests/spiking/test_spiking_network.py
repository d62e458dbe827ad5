"""The stored network: bit for bit what was saved, or refused; and proofs that no potential overflows."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import OneLine
from graphs import Case, Graph, cases, chain, examples, graphs
from hypothesis import given
from hypothesis import strategies as st

from negspike import SpikingNetwork, simulate
from negspike.errors import InputError
from negspike.spiking.bounds import check_potentials
from negspike.spiking.nodes import MaxPool, Neurons, Node, Readout, Sum, Synapses, Window
from negspike.spiking.storage import _checksum

Members = dict[str, Any]


def network() -> SpikingNetwork:
    random = np.random.default_rng(2)
    weights = [random.integers(-3000, 3000, shape) for shape in ((3, 1, 3, 3), (3, 3, 2, 2), (4, 3, 2, 2))]
    made = chain("3C3-P2-4", (1, 4, 4), weights, [1 << 29] * 3, [-1 << 27] * 3, random.integers(-9, 9, (2, 4)))
    return replace(made, origin={"net": "tiny", "seed": 3, "dataset": "digits", "data_checksum": "ab" * 32})


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    network().save(tmp_path / "spiking.npz")
    return tmp_path / "spiking.npz"


def members(path: Path) -> Members:
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def rewrite(path: Path, arrays: Members, checksum: bool = True) -> None:
    """Write a file as :meth:`SpikingNetwork.save` does, with a checksum that is right."""
    if checksum:
        rest = {name: array for name, array in arrays.items() if name not in ("header", "checksum")}
        arrays = arrays | {"checksum": np.array(_checksum(str(arrays["header"]), rest))}
    np.savez(path, **arrays)


def change_header(arrays: Members, **changes: Any) -> Members:
    return arrays | {"header": np.array(json.dumps(json.loads(str(arrays["header"])) | changes, sort_keys=True))}


def change_node(arrays: Members, number: int, **changes: Any) -> Members:
    nodes = json.loads(str(arrays["header"]))["nodes"]
    nodes[number] |= changes
    return change_header(arrays, nodes=nodes)


def change_synapses(arrays: Members, number: int, **changes: Any) -> Members:
    nodes = json.loads(str(arrays["header"]))["nodes"]
    synapses = nodes[number]["synapses"][0]
    for name, value in changes.items():
        (synapses if name in synapses else synapses["window"])[name] = value
    return change_header(arrays, nodes=nodes)


def assert_same(found: Any, expected: Any) -> None:
    """Every field, down to the types of the integers."""
    assert type(found) is type(expected)
    if is_dataclass(expected):
        for item in fields(expected):
            assert_same(getattr(found, item.name), getattr(expected, item.name))
    elif isinstance(expected, tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    else:
        assert found == expected


# --- saving and loading ---------------------------------------------------------------------------------------------


def check_round_trip(made: SpikingNetwork, images: np.ndarray, folder: Path) -> None:
    made.save(folder / "a.npz")
    loaded = SpikingNetwork.load(str(folder / "a.npz"))
    assert_same(loaded, made)
    loaded.save(folder / "b.npz")
    assert members(folder / "a.npz").keys() == members(folder / "b.npz").keys()
    assert str(members(folder / "a.npz")["checksum"]) == str(members(folder / "b.npz")["checksum"])
    before, after = made.activations(images), loaded.activations(images)
    assert before.keys() == after.keys()
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values)


@examples(40)
@given(case=cases(images=2, timesteps=3))
def test_round_trip_of_chains(case: Case, tmp_path: Path) -> None:
    """Every integer, and the same file for the same network."""
    check_round_trip(case.network(), case.images, tmp_path)


@examples(80)
@given(graph=graphs(images=2))
def test_round_trip_of_graphs(graph: Graph, tmp_path: Path) -> None:
    """Every kind of node and synapse."""
    check_round_trip(graph.network, graph.images, tmp_path)


def test_origin_is_kept(saved: Path) -> None:
    assert_same(SpikingNetwork.load(saved), network())


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


@pytest.mark.parametrize(
    "name",
    ["layer0/theta", "layer1/base", "layer2/0/weight", "layer1/0/scale", "classifier/0/weight", "classifier/bias"],
)
def test_altered_numbers(saved: Path, name: str) -> None:
    arrays = members(saved)
    arrays[name] = arrays[name].copy()
    arrays[name].flat[0] += 1
    rewrite(saved, arrays, checksum=False)
    with OneLine(InputError, "spiking.npz", "checksum", "altered"):
        SpikingNetwork.load(saved)


def test_altered_types_shapes_and_additions(saved: Path) -> None:
    original = members(saved)
    first, second = original["layer0/theta"], original["layer1/theta"]
    for changes in (
        {"layer0/theta": first.astype(np.int32)},
        {"layer0/0/weight": original["layer0/0/weight"].reshape(3, 1, 9, 1)},
        {"extra": np.zeros(1)},
        {"layer0/theta": second, "layer1/theta": first, "layer0/base": original["layer1/base"] + 1},
    ):
        rewrite(saved, original | changes, checksum=False)
        with OneLine(InputError, "spiking.npz", "checksum"):
            SpikingNetwork.load(saved)
    for altered in (change_header(original, weight_bits=23), change_node(original, 0, low=-1)):
        rewrite(saved, altered, checksum=False)
        with OneLine(InputError, "spiking.npz", "checksum"):
            SpikingNetwork.load(saved)


def test_arrays_of_no_node(saved: Path) -> None:
    rewrite(saved, members(saved) | {"layer9/theta": np.zeros(1, np.int64)})
    with OneLine(InputError, "spiking.npz", "layer9/theta", "no node"):
        SpikingNetwork.load(saved)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        (name, name)
        for name in ("header", "checksum", "layer0/theta", "layer1/base", "layer1/0/scale", "classifier/bias")
    ]
    + [("layer2/0/weight", "layer2"), ("classifier/0/weight", "classifier")],
)
def test_missing_members(saved: Path, name: str, word: str) -> None:
    arrays = members(saved)
    del arrays[name]
    rewrite(saved, arrays, checksum=name != "header" and name != "checksum")
    with OneLine(InputError, "spiking.npz", word):
        SpikingNetwork.load(saved)


def test_the_format_before(saved: Path) -> None:
    header = {"format": 1, "topology": "2", "input_shape": [1, 1, 1], "k": 1, "weight_bits": 16, "origin": {}}
    arrays = {
        "header": np.array(json.dumps(header)),
        "theta0": np.ones(2, np.int64),
        "exponent0": np.zeros(2, np.int32),
    }
    rewrite(saved, arrays)
    with OneLine(InputError, "spiking.npz", "format 1, this version reads 2", "convert again"):
        SpikingNetwork.load(saved)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"format": 3}, "format 3"),
        ({"format": "2"}, "format '2'"),
        ({"threshold_extra_bits": 20}, "threshold_extra_bits"),
        ({"image_fraction_bits": 12}, "image_fraction_bits"),
        ({"input_shape": [1, 4]}, "input_shape"),
        ({"input_shape": "abc"}, "input_shape"),
        ({"input_shape": [2, 4, 4]}, "layer0"),
        ({"input_shape": [1, 0, 4]}, "input"),
        ({"weight_bits": 8}, "wider than 8 bits"),
        ({"weight_bits": 40}, "weight_bits is 40"),
        ({"weight_bits": None}, "weight_bits"),
        ({"weight_bits": "24"}, "weight_bits"),
        ({"nodes": 7}, "nodes"),
        ({"nodes": []}, "layer"),
        ({"origin": 3}, "origin"),
    ],
)
def test_other_headers(saved: Path, changes: dict[str, Any], word: str) -> None:
    """With a checksum that is right, as of a file that another program wrote."""
    rewrite(saved, change_header(members(saved), **changes))
    with OneLine(InputError, "spiking.npz", word):
        SpikingNetwork.load(saved)


@pytest.mark.parametrize(
    ("number", "changes", "word"),
    [
        (0, {"kind": "spikes"}, "nodes.0"),
        (0, {"low": 1}, "bounds 1 and None"),
        (0, {"high": -1}, "bounds 0 and -1"),
        (0, {"high": 1 << 31}, "layer0"),
        (0, {"low": "0"}, "low"),
        (0, {"low": 0.5}, "low"),
        (0, {"step": 0.0}, "step"),
        (0, {"shape": [3, 5, 4]}, "layer0"),
        (0, {"shape": [3, 0, 4]}, "layer0"),
        (0, {"shape": [3, 4]}, "shape"),
        (1, {"synapses": []}, "layer1"),
        (1, {"name": "layer0"}, "layer0"),
        (2, {"delay": 1}, "delay"),
        (3, {"unit": -1.0}, "unit"),
        (3, {"shape": [2, 2, 1]}, "classifier"),
    ],
)
def test_other_nodes(saved: Path, number: int, changes: dict[str, Any], word: str) -> None:
    rewrite(saved, change_node(members(saved), number, **changes))
    with OneLine(InputError, "spiking.npz", word):
        SpikingNetwork.load(saved)


@pytest.mark.parametrize(
    ("number", "changes", "word"),
    [
        (1, {"source": "nowhere"}, "nowhere"),
        (1, {"source": "layer2"}, "none of the nodes before it"),
        (1, {"source": "layer1"}, "none of the nodes before it"),
        (1, {"source": None}, "source"),
        (1, {"groups": 0}, "layer1"),
        (1, {"groups": 2}, "2 groups"),
        (1, {"groups": 3}, "layer1"),
        (0, {"kernel": [2, 2]}, "layer0"),
        (1, {"stride": [0, 2]}, "at least 1"),
        (1, {"dilation": [1, 0]}, "at least 1"),
        (1, {"padding": [[-1, 0], [0, 0]]}, "at least 0"),
        (1, {"padding": [[1, 1], [1, 1]]}, "layer1"),
        (1, {"kernel": [2]}, "kernel"),
    ],
)
def test_other_synapses(saved: Path, number: int, changes: dict[str, Any], word: str) -> None:
    rewrite(saved, change_synapses(members(saved), number, **changes))
    with OneLine(InputError, "spiking.npz", word):
        SpikingNetwork.load(saved)


@pytest.mark.parametrize(
    "header",
    ["[]", "7", "null", "{", "", '{"format": 2}', '{"format": {}}', pytest.param("[" * 100_000, id="deep")],
)
def test_headers_that_are_none(saved: Path, header: str) -> None:
    rewrite(saved, members(saved) | {"header": np.array(header)})
    with OneLine(InputError, "spiking.npz"):
        SpikingNetwork.load(saved)


@pytest.mark.parametrize(
    ("name", "change", "word"),
    [
        ("layer0/theta", lambda array: array.astype(np.int32), "int32"),
        ("layer0/theta", lambda array: array.astype(np.float64), "float64"),
        ("layer0/theta", lambda array: array * 0, "threshold"),
        ("layer0/theta", lambda array: -array, "threshold"),
        ("layer0/base", lambda array: array.astype(">i8"), ">i8"),
        ("layer2/base", lambda array: array[:-1], "(3,)"),
        ("layer1/0/weight", lambda array: array.astype(np.uint16), "uint16"),
        ("layer1/0/weight", lambda array: array.astype(np.int64), "int64"),
        ("layer1/0/weight", lambda array: array * 0 - np.int32(2**23), "wider"),
        ("layer1/0/scale", lambda array: array.astype(np.int32), "int32"),
        ("layer1/0/scale", lambda array: array[:-1], "2 scales"),
        ("classifier/0/weight", lambda array: array.swapaxes(0, 1).copy(), "4 outputs, 2 scales"),
        ("classifier/0/weight", lambda array: array * 0 + np.int32(2**25), "classifier, synapse 0: a weight is wider"),
        ("classifier/bias", lambda array: array.astype(np.int32), "bias"),
        ("layer1/0/targets", lambda _: np.array([0, 2, 0]), "twice"),
        ("layer1/0/targets", lambda _: np.array([0, 1, 3]), "targets are from 0 to 2"),
        ("layer1/0/channels", lambda _: np.array([0, -1, 2]), "channels are from 0 to 2"),
        ("layer1/0/channels", lambda _: np.array([0, 1, 2], np.int32), "channels is int32"),
    ],
)
def test_other_arrays(saved: Path, name: str, change: Callable[[Any], np.ndarray], word: str) -> None:
    arrays = members(saved)
    rewrite(saved, arrays | {name: change(arrays.get(name))})
    with OneLine(InputError, "spiking.npz", word):
        SpikingNetwork.load(saved)


def test_compressed_files(saved: Path) -> None:
    """Whose few bytes could promise any number of zeros."""
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


class Bomb:
    """Unpickling it would run code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was loaded",))


@pytest.mark.parametrize("name", ["layer0/theta", "header", "other"])
def test_pickles_are_refused(saved: Path, name: str) -> None:
    arrays = members(saved)
    objects = np.empty(1, object)
    objects[0] = Bomb()
    np.savez(saved, **(arrays | {name: objects}))
    with OneLine(InputError, "spiking.npz", "promises more"):
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


def point(source: str, channels: int, **options: Any) -> Synapses:
    return Synapses(source, Window(), np.ones(channels, np.int64), **options)


def neurons(name: str, *synapses: Synapses) -> Neurons:
    return Neurons(name, (2, 3, 3), synapses, np.ones(2, np.int64), np.zeros(2, np.int64))


FIRST = neurons("first", point("input", 2))
MATRIX = np.ones((1, 2, 3, 3), np.int16)
READOUT = Readout(
    "out", (1, 1, 1), (Synapses("first", Window((3, 3)), np.ones(1, np.int64), MATRIX),), np.zeros(1, np.int64)
)
TOTAL = Sum("total", (2, 3, 3), (point("first", 2),))
WEIGHT = np.ones((2, 2, 1, 1), np.int16)


@pytest.mark.parametrize(
    ("nodes", "word"),
    [
        ((), "one readout"),
        ((FIRST,), "one readout"),
        ((FIRST, READOUT, replace(READOUT, name="again")), "one readout"),
        ((FIRST, READOUT, neurons("late", point("first", 2))), "one readout"),
        ((READOUT, FIRST), "'first' is none of the nodes before it"),
        ((FIRST, FIRST, READOUT), "occurs once"),
        ((replace(FIRST, name="a/b"), READOUT), "'a/b'"),
        ((replace(FIRST, name="input"), READOUT), "'input'"),
        ((neurons("first"), READOUT), "first: it listens to nothing"),
        ((neurons("first", point("input", 3)), READOUT), "3 channels, expected 2"),
        ((replace(FIRST, shape=(2, 3, 4)), READOUT), "first"),
        ((replace(FIRST, low=True), READOUT), "first: a bound is True"),
        ((replace(FIRST, step=float("nan")), READOUT), "first: step"),
        ((FIRST, replace(READOUT, unit=0.0)), "out: "),
        ((FIRST, MaxPool("pool", (2, 3, 3), "input", Window()), READOUT), "not to 'input'"),
        ((FIRST, TOTAL, MaxPool("pool", (2, 3, 3), "total", Window()), READOUT), "not to 'total'"),
        ((FIRST, MaxPool("pool", (1, 3, 3), "first", Window()), READOUT), "pool: 1 channels"),
        (
            (FIRST, MaxPool("pool", (2, 5, 3), "first", Window(padding=((1, 1), (0, 0)))), READOUT),
            "nothing but padding",
        ),
        ((FIRST, TOTAL, neurons("next", point("total", 2, weight=WEIGHT)), READOUT), "point by point"),
    ],
)
def test_graphs_that_do_not_fit(nodes: tuple[Node, ...], word: str) -> None:
    SpikingNetwork((2, 3, 3), (FIRST, TOTAL, READOUT), 16)
    with OneLine(InputError, word):
        SpikingNetwork((2, 3, 3), nodes, 16)


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
        check_potentials(made, timesteps=timesteps, largest_pixel=int(encoded.max()))
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
    check_potentials(made, timesteps=10**6, largest_pixel=1 << 16)
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
        check_potentials(made, timesteps=1, largest_pixel=1 << 16)
    with OneLine(InputError, "layer0"):
        made.activations(images)


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
        found = made.activations(image)
    except InputError as error:
        assert "64-bit" in str(error)
        return
    first = max(0, ((weight * int(made.encode(image).item()) << k) - sign * base) // theta)
    second = max(0, ((-weight * first << 16) + sign * base) // theta)
    assert (found["layer0"].item(), found["layer1"].item()) == (first, second)
    assert found["classifier"].tolist() == [[second, weight * second]]


def test_large_activations_are_not_wrapped() -> None:
    image = np.full((1, 1, 1, 1), 2.0**37)
    found = chain("1", (1, 1, 1), [[1]], [1], [0], [[1], [3]], k=8).activations(image)
    assert found["layer0"].item() == 2**61
    assert found["classifier"].tolist() == [[2**61, 3 * 2**61]]
    with OneLine(InputError, "classifier", "64-bit"):
        chain("1", (1, 1, 1), [[1]], [1], [0], [[1], [4]], k=8).activations(image)
