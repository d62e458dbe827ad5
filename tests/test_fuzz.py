"""Files and configurations with mutations: whatever is in them, they are read or refused with one line.

``make fuzz`` tries 3,000 of each format; ``python tests/test_fuzz.py SEED COUNT [FORMAT ...]`` as many as you like, by
a seed of your own. Its exit code is 1 if one of them ended in anything but a line.
"""

from __future__ import annotations

import copy
import gzip
import io
import json
import random
import re
import sys
import tempfile
import traceback
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT, idx_bytes, write_cifar10
from PIL import Image
from scipy.io import savemat

from negspike import SpikingNetwork, simulate
from negspike.config import resolve_config
from negspike.data.archives import read_archives
from negspike.data.dataset import load_dataset, save_dataset
from negspike.data.registry import DATASETS, DatasetSpec
from negspike.errors import InputError
from negspike.figures import accuracy_speed, raster, sops, sparsity, streaming
from negspike.precision import Precision
from negspike.results.collect import Results, collect
from negspike.results.comparison import compare, read_numbers
from negspike.results.metrics import Curves, write_table
from negspike.results.published import beside, read_published
from negspike.results.traces import TracedImage, write_trace
from negspike.spiking.logs import read_logs
from negspike.spiking.storage import checksum
from negspike.spiking.trace import trace
from negspike.training.checkpoint import read_checkpoint, write_checkpoint
from negspike.training.history import Epoch
from negspike.training.network import Network
from negspike.training.topology import parse_topology
from negspike.training.weights import load_weights, save_weights

ODD: list[Any] = [None, True, False, 0, -1, 1, 2, 2**31, 2**63, 2**64, 10**30, 10**400, 0.5, 2.7, 1e308, float("nan")]
ODD += [float("-inf"), "", "x", "\0", "\ud800", "$\\frac{$", "{net}", "é\n", "1e5", [], {}, [[[]]], {"a": [1]}, {1: 2}]
BYTES = [b"", b"\0", b"\xff", b"\n", b"-", b"0", b"9" * 400, b"\xff\xfe", b"\xef\xbb\xbf", b"\x80", b"{", b"]", b"'"]
Mutate = Callable[[bytes, random.Random], bytes]


# --- mutations ------------------------------------------------------------------------------------------------------


def raw(content: bytes, draw: random.Random) -> bytes:
    """A few bytes or stretches of bytes changed, added, repeated, left out or cut off."""
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        at = draw.randrange(len(changed) + 1)
        until = min(len(changed), at + draw.choice((1, 1, 2, 4, 8, 40, 1000)))
        kind = draw.randrange(6)
        if kind == 0:
            changed[at:until] = draw.randbytes(until - at)
        elif kind == 1:
            changed[at:until] = b""
        elif kind == 2:
            changed[at:at] = changed[at:until] * draw.choice((1, 2, 50))
        elif kind == 3:
            changed[at:until] = draw.choice(BYTES)
        elif kind == 4 and at < len(changed):
            changed[at] ^= 1 << draw.randrange(8)
        elif kind == 5:
            del changed[at:]
    return bytes(changed)


def inside_gzip(content: bytes, draw: random.Random) -> bytes:
    """What is unpacked is changed; its checksum is right."""
    unpacked = gzip.decompress(content)
    # headers are where it hurts
    head = draw.choice((16, 64, 512, 1536, len(unpacked)))
    return gzip.compress(raw(unpacked[:head], draw) + unpacked[head:], 1, mtime=0)


def inside_zip(content: bytes, draw: random.Random) -> bytes:
    """A member, its name or its place is changed; its checksum is right."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        names = old.namelist()
        victim, kind = draw.choice(names), draw.randrange(8)
        for name in names:
            data = old.read(name)
            if name == victim and kind == 0:
                continue
            if name == victim and kind == 1:
                name = draw.choice([name + "x", "../" + name, "a" * 300, name.upper(), draw.choice(names)])
            elif name == victim:
                head = draw.choice((12, 128, len(data)))
                data = raw(data[:head], draw) + data[head:]
            new.writestr(name, data)
    return out.getvalue()


def odd_value(value: Any, draw: random.Random) -> Any:
    """A copy of nested lists and mappings with some entry changed, left out, added or put in another's place."""
    value = copy.deepcopy(value)
    for _ in range(draw.choice((1, 1, 2))):
        places = list(_places(value))
        if not places:
            return draw.choice(ODD)
        holder, key = draw.choice(places)
        kind = draw.randrange(6)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            holder[draw.choice(ODD[11:-4]) or "new"] = holder.pop(key)
        elif kind == 2:
            holder[key] = copy.deepcopy(draw.choice([one[key] for one, key in places]))
        elif kind == 3:
            holder[key] = [holder[key]]
        else:
            holder[key] = copy.deepcopy(draw.choice(ODD))
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        yield value, key
        yield from _places(entry)


def odd_array(array: np.ndarray, draw: random.Random) -> np.ndarray:
    """Another type, shape or content."""
    kind = draw.randrange(6)
    if kind == 0:
        return array.astype(draw.choice(["i1", "u8", "f4", "f8", "?", "c16", ">i4", "S3", "M8[s]"]))
    if kind == 1:
        return array.reshape(-1)
    if kind == 2:
        return array[..., None]
    if kind == 3:
        return array[:0] if array.ndim else array.reshape(1)
    if kind == 4:
        return np.zeros(draw.choice([(), (0,), (3, 3), (1, 1, 1, 1, 1)]), array.dtype)
    changed = array.copy()
    if changed.size and changed.dtype.kind in "iu":
        limits = np.iinfo(changed.dtype)
        changed.reshape(-1)[draw.randrange(changed.size)] = draw.choice([limits.min, limits.max, 0])
    return changed


def odd_network(content: bytes, draw: random.Random) -> bytes:
    """A network with another header or other arrays, whose checksum is right."""
    with np.load(io.BytesIO(content)) as stored:
        arrays = {name: stored[name] for name in stored.files}
    header = json.loads(str(arrays.pop("header")))
    del arrays["checksum"]
    if draw.random() < 0.6:
        header = odd_value(header, draw)
    else:
        name = draw.choice(list(arrays))
        arrays[name] = odd_array(arrays[name], draw)
    text = json.dumps(header, skipkeys=True)
    out = io.BytesIO()
    members = {"header": np.array(text), "checksum": np.array(checksum(text, arrays))} | arrays
    np.savez(out, **members)
    return out.getvalue()


def odd_tensors(content: bytes, draw: random.Random) -> bytes:
    """Tensors and plain values of which some are others, as torch would save them."""
    stored = torch.load(io.BytesIO(content), weights_only=True)
    places = [(h, k) for h, k in _places(stored) if isinstance(h[k], torch.Tensor)]
    if draw.random() < 0.5 and places:
        holder, key = draw.choice(places)
        old = holder[key]
        choices = [old.double(), old.to(torch.complex64), old.to_sparse(), old.to("meta"), old.long(), old[..., None]]
        choices += [old.reshape(-1)[:0], old.half(), torch.quantize_per_tensor(old.float(), 0.1, 0, torch.qint8)]
        choices += [old.t()] if old.ndim == 2 else []
        holder[key] = draw.choice(choices)
        if draw.random() < 0.2:
            holder[5] = holder.pop(key)
    else:
        stored = odd_value(stored, draw)
    out = io.BytesIO()
    torch.save(stored, out)
    return out.getvalue()


def odd_json(content: bytes, draw: random.Random) -> bytes:
    if draw.random() < 0.02:
        return b"[" * 100_000 + b"]" * 100_000
    text = json.dumps(odd_value(json.loads(content), draw), skipkeys=True)
    return text.encode(draw.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1")), "surrogatepass")


def odd_yaml(content: bytes, draw: random.Random) -> bytes:
    scalars = ["2001-13-45", "!!int abc", "!!timestamp foo", "!!bool maybe", "!!python/object:os.system x", "9" * 5000]
    scalars += ["*anchor", "&a [*a]", "0x" + "f" * 5000, "? x", "<<: 3", "!!binary ###", "- - -", "\t", "1:2:3"]
    text = content.decode()
    if draw.random() < 0.5:
        places = list(re.finditer(r"(?<=: )[^\n\[{#]+", text))
        place = draw.choice(places)
        text = text[: place.start()] + draw.choice(scalars) + text[place.end() :]
    else:
        text = yaml.safe_dump(odd_value(yaml.safe_load(text), draw), allow_unicode=True)
    return text.encode(draw.choice(("utf-8", "utf-8", "utf-16", "latin-1")), "replace")


def odd_lines(content: bytes, draw: random.Random) -> bytes:
    lines = content.decode().splitlines()
    odd = ["", " ", "-1", "1e5", "1e400", "9" * 30, "9" * 5000, "nan", "0x1", "1_0", "١", "1.5", "-0.0", "\0", "1\x0c2"]
    for _ in range(draw.choice((1, 2, 4))):
        at = draw.randrange(len(lines) + 1)
        lines[at : at + draw.randrange(2)] = [draw.choice(odd)] * draw.choice((0, 1, 1, 1, 4))
    end = draw.choice(("\n", "\n", "\r\n", "\r", "\n\n", "\x85"))
    text = end.join(lines) + draw.choice(("\n", "\n", "", "\n\n"))
    return text.encode(draw.choice(("utf-8", "utf-16", "utf-8-sig")))


# --- formats --------------------------------------------------------------------------------------------------------


@dataclass
class Format:
    """A good file, what reads it and what changes it.

    Attributes:
        name: the file's name.
        content: of the good file.
        read: reads the file; what was read is used as well.
        mutations: one of them is drawn.
    """

    name: str
    content: bytes
    read: Callable[[Path], object]
    mutations: tuple[Mutate, ...]


def _network(path: Path) -> None:
    network = SpikingNetwork.load(path)
    assert network.input_shape == (1, 6, 6) or np.prod(network.input_shape) > 0
    if sum(np.prod(node.shape) for node in network.nodes) < 10_000 and np.prod(network.input_shape) < 10_000:
        images = np.random.default_rng(0).normal(size=(2, *network.input_shape))
        simulate(network, images, timesteps=3, engine="reference")
        network.activations(images)


def _weights(path: Path) -> None:
    network = _net()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    try:
        load_weights(network, path)
    except InputError:
        assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())
        raise


def _net() -> Network:
    return Network(parse_topology("3C3-4", (1, 6, 6)), 1, 16)


def _checkpoint(path: Path) -> None:
    """Used or not; if used, training goes on with it."""
    network = _net()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    lines: list[str] = []
    history, _ = read_checkpoint(path, "settings", network, optimizer, 2, lines.append)
    assert len(lines) <= 1 and not any("\n" in line for line in lines)
    if lines:
        assert not history
        assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())
    network(torch.zeros(2, 1, 6, 6)).sum().backward()
    optimizer.step()


def _evaluation(logs: dict[str, str], path: Path) -> None:
    """What figures and table are made of, but for the drawing."""
    for name, text in logs.items():
        (path.parent / f"{name}.txt").write_text(text)
    results = collect(path.parents[3])
    for figure in (accuracy_speed, sparsity, sops):
        figure.numbers(results)
    write_table(results.curves, path.parents[3] / "table.csv")


def _numbers(path: Path) -> None:
    numbers = read_numbers(path)
    compare(numbers, numbers, "ours", "theirs")


def _published(path: Path) -> None:
    """What is drawn beside ours, but for the drawing."""
    _numbers(path)
    each = np.array([1.0, 2.0])
    run = Curves("tiny", 0, 1, 10, each / 10, each, each, each, 9, 900)
    results = beside(Results((run,), {}), read_published(str(path)))
    for figure in (accuracy_speed, sparsity, sops):
        figure.numbers(results)


def _figure(figure: ModuleType, path: Path) -> None:
    """What is drawn of one network, but for the drawing."""
    figure.numbers(figure.read(path.parents[3], [("small", 0, "k0")]))


def _yaml(path: Path) -> None:
    from negspike.commands.configuration import _read_yaml

    resolve_config(_read_yaml(path))


def _files(folder: Path) -> Iterator[tuple[str, Format]]:
    """All formats; the folder is for making them."""
    chance = np.random.default_rng(0)

    def pixels(*shape: int) -> np.ndarray:
        return chance.integers(0, 256, shape, dtype=np.uint8)

    own = DatasetSpec(name="own", format="npz", image_shape=(1, 4, 5), classes=3)
    arrays = {"train_images": pixels(6, 1, 4, 5), "train_labels": np.arange(6, dtype=np.uint8) % 3}
    arrays |= {"test_images": pixels(2, 1, 4, 5), "test_labels": np.arange(2, dtype=np.uint8)}
    save_dataset(own, arrays, folder / "own.npz")
    stored = (folder / "own.npz").read_bytes()
    yield "dataset", Format("own.npz", stored, partial(load_dataset, own), (raw, inside_zip, inside_zip))
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
    read = partial(_read, own, "archive")
    yield "npz", Format("own.npz", packed.getvalue(), read, (raw, inside_zip, inside_zip))

    layers = [
        {"weight": chance.normal(size=shape), "eps": 1e-5}
        | {name: np.ones(shape[0]) for name in ("gamma", "var")}
        | {name: np.zeros(shape[0]) for name in ("beta", "mean")}
        for shape in ((3, 1, 3, 3), (3, 3, 2, 2), (4, 3, 3, 3))
    ]
    network = SpikingNetwork.from_batchnorm("3C3-P2-4", (1, 6, 6), 1, layers, chance.normal(size=(4, 3)))
    network.save(folder / "spiking.npz")
    content = (folder / "spiking.npz").read_bytes()
    yield "network", Format("spiking.npz", content, _network, (raw, inside_zip, odd_network, odd_network))

    save_weights(_net(), folder / "weights.pt", {"provenance": "{}"})
    content = (folder / "weights.pt").read_bytes()
    yield "weights", Format("weights.pt", content, _weights, (raw, inside_zip, odd_tensors, odd_tensors))
    net = _net()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    net(torch.zeros(2, 1, 6, 6)).sum().backward()
    optimizer.step()
    row = Epoch(1, 1, 1e-3, 0.5, 0.5, None, 0.5, 1.0)
    session = {"first_epoch": 1, "environment": {"threads": 1}}
    write_checkpoint(folder / "checkpoint", "settings", net, optimizer, [row], [session])
    content = (folder / "checkpoint").read_bytes()
    yield "checkpoint", Format(".phase1.checkpoint", content, _checkpoint, (raw, inside_zip, odd_tensors, odd_tensors))

    content = gzip.compress(idx_bytes(pixels(3, 28, 28)), mtime=0)
    others = {"train_labels": idx_bytes(np.zeros(3, np.uint8)), "test_labels": idx_bytes(np.zeros(3, np.uint8))}
    others["test_images"] = idx_bytes(pixels(3, 28, 28))
    for name, data in others.items():
        (folder / name).write_bytes(gzip.compress(data))
    paths = {name: folder / name for name in others}
    read = partial(_read, DATASETS["mnist"], "train_images", **paths)
    yield "idx", Format("images.gz", content, read, (raw, inside_gzip, inside_gzip))

    content = write_cifar10(folder / "cifar.tar.gz", (1, 1, 1, 1, 1, 1))[0].read_bytes()
    read = partial(_read, DATASETS["cifar10"], "archive")
    yield "cifar", Format("cifar.tar.gz", content, read, (raw, inside_gzip, inside_gzip))
    savemat(folder / "x.mat", {"X": pixels(32, 32, 3, 2), "y": np.array([[1], [10]], np.uint8)}, do_compression=True)
    read = partial(_read, DATASETS["svhn"], "train", test=folder / "x.mat")
    yield "svhn", Format("train.mat", (folder / "x.mat").read_bytes(), read, (raw,))
    yield from _image_archives()

    logs = {"accuracy": "1\n2\n2\n", "spike_num": "4\n8\n9\n", "sop_num": "40\n80\n90\n"}
    logs["spike_collect"] = "4.0\n6.0\n7.0\n"
    facts = {"net": "tiny", "seed": 0, "k": 1, "images": 3, "timesteps": 3, "batch_size": 50, "neurons": 9}
    facts |= {"reference_operations": 900, "signed": False, "layers": [{"name": "a"}]}
    content, read = json.dumps(facts).encode(), partial(_evaluation, logs)
    yield "evaluation", Format("tiny/seed0/k1/evaluation.json", content, read, (odd_json, raw))
    for name in ("spike_collect", "sop_num"):
        read_folder = partial(_logs, logs)
        yield name, Format(f"{name}.txt", (logs[name] * 40).encode(), read_folder, (odd_lines, raw))
    traced = trace(network, np.ones(network.input_shape), timesteps=5)
    write_trace(TracedImage("small", 0, Precision("k", 0), 0, 7, traced), folder / "trace.npz")
    content, at = (folder / "trace.npz").read_bytes(), "small/seed0/k0"
    yield "trace", Format(f"{at}/trace.npz", content, partial(_figure, raster), (raw, inside_zip, inside_zip))
    content = b"frame,stream,kind,changed_pixels,sops,fresh_sops,equal\n" + b"".join(
        b"%d,%d,moves,3,40,50,1\n" % (frame, stream) for frame in range(4) for stream in range(2)
    )
    yield "stream", Format(f"{at}/stream.csv", content, partial(_figure, streaming), (odd_lines, raw))
    content = (ROOT / "docs/results/cnn1.csv").read_bytes()
    yield "summary", Format("summary.csv", content, _numbers, (odd_lines, raw))
    content = b"net,precision,timestep,accuracy,spikes_per_image,neurons\n" + b"".join(
        b"tiny,k1,%d,0.%d,%d,9\n" % (step, step, 4 * step) for step in range(1, 5)
    )
    yield "published", Format("published.csv", content + b"tiny,fp32,,0.9,,\n", _published, (odd_lines, raw))
    yield "config", Format("config.yaml", (ROOT / "config.yaml").read_bytes(), _yaml, (odd_yaml, odd_yaml, raw))


def _image_archives() -> Iterator[tuple[str, Format]]:
    spec = DatasetSpec(name="pictures", format="image_folder", image_shape=(3, 4, 5), classes=2, resize=True)
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        for number, kind in enumerate(("png", "jpeg", "bmp", "tiff", "webp", "ppm", "png", "png")):
            out = io.BytesIO()
            Image.fromarray(np.full((6, 7, 3), 20 * number, np.uint8)).save(out, kind)
            name = f"{'train' if number < 6 else 'test'}/{number % 2}/{number}.{kind}"
            archive.writestr(name, out.getvalue())
    read = partial(_read, spec, "archive")
    yield "pictures", Format("pictures.zip", zipped.getvalue(), read, (raw, inside_zip, inside_zip, inside_zip))


def _read(spec: DatasetSpec, name: str, path: Path, **others: Path) -> None:
    save_dataset(spec, read_archives(spec, {**others, name: path}), path.with_suffix(".out.npz"))


def _logs(logs: dict[str, str], path: Path) -> None:
    for name, text in logs.items():
        if name != path.stem:
            (path.parent / f"{name}.txt").write_text(text * 40)
    read_logs(path.parent, 3, 50)


def attempt(kind: str, made: Format, seed: int, number: int, folder: Path) -> str:
    """Read one mutation; returns what went wrong, or nothing."""
    draw = random.Random(f"{kind} {seed} {number}")
    path = folder / made.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(draw.choice(made.mutations)(made.content, draw))
    try:
        made.read(path)
    except InputError as error:
        text = str(error)
        if len(text.splitlines()) == 1 and len(text) < 2000:
            return ""
        return f"{kind}, seed {seed}, {number}: not one line: {text[:300]!r}"
    except BaseException:
        return f"{kind}, seed {seed}, {number}: {traceback.format_exc()}"
    return ""


@pytest.fixture(scope="module")
def formats(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Format]:
    return dict(_files(tmp_path_factory.mktemp("made")))


KINDS: tuple[str, ...] = (
    "dataset",
    "npz",
    "network",
    "weights",
    "checkpoint",
    "idx",
    "cifar",
    "svhn",
    "pictures",
    "evaluation",
)
KINDS += ("spike_collect", "sop_num", "trace", "stream", "summary", "published", "config")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_a_good_file_is_read(kind: str, formats: dict[str, Format], tmp_path: Path) -> None:
    made = formats[kind]
    path = tmp_path / made.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(made.content)
    made.read(path)


def test_all_formats_are_tried(formats: dict[str, Format]) -> None:
    assert tuple(formats) == KINDS


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_mutations(kind: str, formats: dict[str, Format], tmp_path: Path) -> None:
    wrong = [attempt(kind, formats[kind], 0, number, tmp_path) for number in range(300)]
    assert not any(wrong), next(filter(None, wrong))


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    failures = 0
    with tempfile.TemporaryDirectory() as place:
        Path(place, "made").mkdir()
        for chosen, ready in _files(Path(place, "made")):
            if sys.argv[3:] and chosen not in sys.argv[3:]:
                continue
            tried = [attempt(chosen, ready, int(sys.argv[1]), index, Path(place)) for index in range(int(sys.argv[2]))]
            found = list(filter(None, tried))
            failures += len(found)
            print(f"{chosen}: {len(tried)} mutations, {len(found)} wrong", *found[:3], sep="\n", flush=True)
    sys.exit(failures > 0)
