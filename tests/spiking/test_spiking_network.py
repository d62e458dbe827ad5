"""The stored network: bit for bit what was saved, or refused; and proofs that no potential overflows."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import OneLine
from hypothesis import given
from hypothesis import strategies as st
from spiking_networks import Case, cases, examples, integer_network

from negspike import SpikingNetwork, simulate
from negspike.errors import InputError
from negspike.spiking.graph import _checksum
from negspike.training.topology import parse_topology

Members = dict[str, Any]


def network() -> SpikingNetwork:
    random = np.random.default_rng(2)
    weights = [random.integers(-3000, 3000, shape) for shape in ((3, 1, 3, 3), (3, 3, 2, 2), (4, 3, 2, 2))]
    made = integer_network(
        "3C3-P2-4", (1, 4, 4), weights, [1 << 29] * 3, [-1 << 27] * 3, random.integers(-9, 9, (2, 4))
    )
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


def assert_same(found: SpikingNetwork, expected: SpikingNetwork) -> None:
    for name in ("topology", "k", "weight_bits", "classifier_exponent", "origin"):
        assert getattr(found, name) == getattr(expected, name), name
        assert type(getattr(found, name)) is type(getattr(expected, name))
    pairs = [(found.classifier, expected.classifier)]
    for layer, other in zip(found.layers, expected.layers, strict=True):
        assert (layer.geometry, layer.shift) == (other.geometry, other.shift)
        pairs += [(getattr(layer, name), getattr(other, name)) for name in ("weight", "exponent", "theta", "base")]
    for array, stored in pairs:
        assert array.dtype == stored.dtype
        np.testing.assert_array_equal(array, stored)


# --- saving and loading ---------------------------------------------------------------------------------------------


@examples(40)
@given(case=cases(images=2, timesteps=3))
def test_round_trip(case: Case, tmp_path: Path) -> None:
    """Every integer, and the same file for the same network."""
    made = case.network()
    made.save(tmp_path / "a.npz")
    loaded = SpikingNetwork.load(str(tmp_path / "a.npz"))
    assert_same(loaded, made)
    loaded.save(tmp_path / "b.npz")
    assert members(tmp_path / "a.npz").keys() == members(tmp_path / "b.npz").keys()
    assert str(members(tmp_path / "a.npz")["checksum"]) == str(members(tmp_path / "b.npz")["checksum"])
    for before, after in zip(made.activations(case.images), loaded.activations(case.images), strict=True):
        np.testing.assert_array_equal(before, after)


def test_the_topology_is_kept(tmp_path: Path) -> None:
    """Padding, width multiplier and classes too."""
    topology = parse_topology("4C3-P2-6", (2, 6, 5), "valid", 0.5, 3)
    layers = []
    for layer in topology.layers:
        shape = layer.weight_shape
        values = {name: np.ones(shape[0]) for name in ("gamma", "beta", "mean", "var")}
        layers.append({"weight": np.ones(shape), **values, "eps": 1e-5})
    made = SpikingNetwork.from_batchnorm(topology, (2, 6, 5), 1, layers, np.ones((3, 3)))
    made.save(tmp_path / "a.npz")
    assert SpikingNetwork.load(tmp_path / "a.npz").topology == topology


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


@pytest.mark.parametrize("name", ["theta0", "base1", "weight2", "exponent0", "classifier"])
def test_altered_numbers(saved: Path, name: str) -> None:
    arrays = members(saved)
    arrays[name] = arrays[name].copy()
    arrays[name].flat[0] += 1
    rewrite(saved, arrays, checksum=False)
    with OneLine(InputError, "spiking.npz", "checksum", "altered"):
        SpikingNetwork.load(saved)


def test_altered_types_shapes_and_additions(saved: Path) -> None:
    original = members(saved)
    for changes in (
        {"theta0": original["theta0"].astype(np.int32)},
        {"weight0": original["weight0"].reshape(3, 1, 9, 1)},
        {"extra": np.zeros(1)},
        {"theta0": original["theta1"], "theta1": original["theta0"], "base0": original["base1"] + 1},
    ):
        rewrite(saved, original | changes, checksum=False)
        with OneLine(InputError, "spiking.npz", "checksum"):
            SpikingNetwork.load(saved)
    rewrite(saved, change_header(original, k=1), checksum=False)
    with OneLine(InputError, "spiking.npz", "checksum"):
        SpikingNetwork.load(saved)


@pytest.mark.parametrize("name", ["header", "checksum", "theta0", "weight2", "classifier"])
def test_missing_members(saved: Path, name: str) -> None:
    arrays = members(saved)
    del arrays[name]
    rewrite(saved, arrays, checksum=name != "header" and name != "checksum")
    with OneLine(InputError, "spiking.npz", name):
        SpikingNetwork.load(saved)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"format": 2}, "format 2"),
        ({"format": "1"}, "format '1'"),
        ({"threshold_extra_bits": 20}, "threshold_extra_bits"),
        ({"image_fraction_bits": 12}, "image_fraction_bits"),
        ({"topology": "3C3-P2-5"}, "layer 2"),
        ({"topology": "3C3-P2"}, "classifier"),
        ({"topology": "3C3-P2-4-4"}, "weight3"),
        ({"topology": "3C3-Q2-4"}, "Q2"),
        ({"topology": 7}, "layer 0"),
        ({"input_shape": [1, 4]}, "spiking.npz"),
        ({"input_shape": "abc"}, "spiking.npz"),
        ({"input_shape": [2, 4, 4]}, "layer 0"),
        ({"padding": "wrap"}, "wrap"),
        ({"classes": 3}, "classifier"),
        ({"k": -1}, "k is -1"),
        ({"k": 60}, "k is 60"),
        ({"k": "1"}, "spiking.npz"),
        ({"weight_bits": 8}, "wider than 8 bits"),
        ({"weight_bits": 40}, "weight_bits 40"),
        ({"weight_bits": None}, "spiking.npz"),
    ],
)
def test_other_headers(saved: Path, changes: dict[str, Any], word: str) -> None:
    """With a checksum that is right, as of a file that another program wrote."""
    rewrite(saved, change_header(members(saved), **changes))
    with OneLine(InputError, "spiking.npz", word):
        SpikingNetwork.load(saved)


@pytest.mark.parametrize("header", ["[]", "7", "null", "{", "", '{"format": 1}', '{"format": {}}'])
def test_headers_that_are_none(saved: Path, header: str) -> None:
    rewrite(saved, members(saved) | {"header": np.array(header)})
    with OneLine(InputError, "spiking.npz"):
        SpikingNetwork.load(saved)


@pytest.mark.parametrize(
    ("name", "change", "word"),
    [
        ("theta0", lambda array: array.astype(np.int32), "int32"),
        ("theta0", lambda array: array.astype(np.float64), "float64"),
        ("theta0", lambda array: array * 0, "threshold"),
        ("theta0", lambda array: -array, "threshold"),
        ("base0", lambda array: array.astype(">i8"), ">i8"),
        ("base2", lambda array: array[:-1], "(3,)"),
        ("weight1", lambda array: array.astype(np.uint16), "uint16"),
        ("weight1", lambda array: array.astype(np.int64), "int64"),
        ("weight1", lambda array: array * 0 - np.int32(2**23), "wider"),
        ("classifier", lambda array: array.T.copy(), "(4, 2)"),
        ("classifier", lambda array: array * 0 + 2**25, "classifier is wider"),
        ("exponent1", lambda array: array.astype(np.int64), "int64"),
    ],
)
def test_other_arrays(saved: Path, name: str, change: Callable[[np.ndarray], np.ndarray], word: str) -> None:
    arrays = members(saved)
    rewrite(saved, arrays | {name: change(arrays[name])})
    with OneLine(InputError, "spiking.npz", word):
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


@pytest.mark.parametrize("name", ["theta0", "header", "other"])
def test_pickles_are_refused(saved: Path, name: str) -> None:
    arrays = members(saved)
    objects = np.empty(1, object)
    objects[0] = Bomb()
    np.savez(saved, **(arrays | {name: objects}))
    with OneLine(InputError, "spiking.npz", "allow_pickle"):
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


def test_layers_of_another_network() -> None:
    made = network()
    with OneLine(InputError, "layers", "3C3-P2-4"):
        replace(made, layers=made.layers[:2]).validate()
    with OneLine(InputError, "layers", "k = 1"):
        replace(made, k=1).validate()
    with OneLine(InputError, "layers"):
        replace(made, topology=parse_topology("3C3-P2-4", (1, 4, 4), "valid", classes=2)).validate()


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
    made = integer_network(
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
        made.check_potentials(encoded, timesteps)
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
    made = integer_network("1-1", (1, 1, 1), [[limit], [limit]], [1 << 36] * 2, [0, 0], [[1], [2]])
    images = np.ones((1, 1, 1, 1))
    made.check_potentials(made.encode(images), 10**6)
    with OneLine(InputError, "layer 1", "64 bits", str(2**25)):
        simulate(made, images, np.zeros(1), 2**25)
    with OneLine(InputError, "layer 0", "64 bits"):
        simulate(made, images * 2.0**46, np.zeros(1), 10)
    wide = integer_network("1", (1, 1, 1), [[1]], [1], [0], [[limit], [2]])
    with OneLine(InputError, "classifier", "53 bits"):
        simulate(wide, images, np.zeros(1), 2**30 + 2**8)
    with OneLine(InputError, "timesteps", "32 bits"):
        simulate(integer_network("1", (1, 1, 1), [[1]], [1], [0], [[1], [2]]), images, np.zeros(1), 2**31)


def test_the_most_negative_base() -> None:
    """Whose absolute value 64 bits cannot hold."""
    made = integer_network("1", (1, 1, 1), [[1]], [1], [-(2**63)], [[0], [1]])
    images = np.ones((1, 1, 1, 1))
    with OneLine(InputError, "layer 0"):
        made.check_potentials(made.encode(images), 1)
    with OneLine(InputError, "layer 0"):
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
    made = integer_network(
        "1-1", (1, 1, 1), [[weight], [-weight]], [theta] * 2, [sign * base, -sign * base], [[1], [weight]], k
    )
    image = np.full((1, 1, 1, 1), pixel)
    try:
        found = made.activations(image)
        logits = made.logits(found[-1])
    except InputError as error:
        assert "64-bit" in str(error)
        return
    first = max(0, ((weight * int(made.encode(image).item()) << k) - sign * base) // theta)
    second = max(0, ((-weight * first << 16) + sign * base) // theta)
    assert [array.item() for array in found] == [first, second]
    assert logits.tolist() == [[second, weight * second]]


def test_large_activations_are_not_wrapped() -> None:
    made = integer_network("1", (1, 1, 1), [[1]], [1], [0], [[1], [2**23 - 1]], k=8)
    activations = made.activations(np.full((1, 1, 1, 1), 2.0**37))
    assert activations[0].item() == 2**61
    with OneLine(InputError, "classifier", "64-bit"):
        made.logits(activations[0])
