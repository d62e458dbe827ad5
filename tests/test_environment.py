"""The user's surroundings reach no result: process-wide switches, styles, locales, folders that cannot be written."""

from __future__ import annotations

import dataclasses
import importlib
import os
import pkgutil
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT
from torch import nn

import negspike
from negspike import QuantIdentity, QuantReLU, SpikingNetwork, convert, from_batchnorm, quantize, simulate, verify
from negspike.errors import InputError

SOURCES = ROOT / "src"


# --- switches of the process ----------------------------------------------------------------------------------------

SWITCHES: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
    "default device": (
        lambda: torch.set_default_device("meta"),
        lambda: torch.set_default_device("cpu"),
    ),  # as a GPU is
    "double": (lambda: torch.set_default_dtype(torch.float64), lambda: torch.set_default_dtype(torch.float32)),
    "half": (lambda: torch.set_default_dtype(torch.float16), lambda: torch.set_default_dtype(torch.float32)),
    "no gradients": (lambda: torch.set_grad_enabled(False), lambda: torch.set_grad_enabled(True)),
    "reduced precision": (
        lambda: torch.set_float32_matmul_precision("medium"),
        lambda: torch.set_float32_matmul_precision("highest"),
    ),
    "deterministic": (
        lambda: torch.use_deterministic_algorithms(True),
        lambda: torch.use_deterministic_algorithms(False),
    ),
    "floating-point errors": (lambda: np.seterr(all="raise"), lambda: np.seterr(all="warn", under="ignore")),
    "anomalies": (
        lambda: torch.autograd.set_detect_anomaly(True),
        lambda: torch.autograd.set_detect_anomaly(False),
    ),
}


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3)]
    return nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(6, 3)).eval()


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(10, 1, 6, 6)).astype(np.float32)


def results(model: nn.Module, images: np.ndarray) -> list[Any]:
    """Everything that the package computes of a model."""
    quantised = quantize(model, images, levels=7).eval()
    network = convert(quantised, images[:2])
    found: list[Any] = [*network.activations(images).values()]
    for engine in ("reference", "dense", "event"):
        log = simulate(network, images, np.zeros(len(images), int), engine=engine, device="cpu")
        found += [log.spikes, log.logits, log.correct, *log.counts.values()]
    return [*found, repr(verify(network, images, quantised, float_model=model, device="cpu"))]


@pytest.fixture(scope="module")
def expected(model: nn.Module, images: np.ndarray) -> list[Any]:
    return results(model, images)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SWITCHES)
def test_switches_of_the_process_change_no_result(
    name: str, model: nn.Module, images: np.ndarray, expected: list[Any]
) -> None:
    on, off = SWITCHES[name]
    on()
    try:
        found = results(model, images)
    finally:
        off()
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


# --- figures --------------------------------------------------------------------------------------------------------

DRAW = r"""
import hashlib, sys
from pathlib import Path
import numpy as np
from negspike.figures import CURVES, draw
from negspike.results.collect import Results
from negspike.results.metrics import Curves

rise = np.linspace(0, 1, 6)
curves = [
    Curves(net=net, seed=0, k=k, images=10, accuracy=rise, spikes=rise * (k + 9), net_spikes=rise, sops=rise * 1e3,
           neurons=7, reference_operations=10**4)
    for net in (r"$\frac{$ net_1^2 %&#", "gr\u00f6\u00dfe <b>") for k in (1,)
]
for kind in [*CURVES][:1]:
    paths = {suffix: Path(sys.argv[1]) / f"{kind}.{suffix}" for suffix in ("pdf", "svg", "png", "csv")}
    draw(kind, Results(curves, {}), paths)
files = sorted(Path(sys.argv[1]).iterdir())
print(len(files), hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest())
"""
STYLE = """text.usetex: True
savefig.bbox: tight
savefig.transparent: True
axes.facecolor: red
axes.formatter.use_mathtext: True
axes.formatter.use_locale: True
font.family: cursive
figure.dpi: 7
svg.image_inline: False
"""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> str:
    return draw_with({}, tmp_path_factory.mktemp("plain"))


def draw_with(changed: dict[str, str], folder: Path) -> str:
    own = ("MPL", "MATPLOTLIB", "LC_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    environment |= {"PYTHONPATH": str(SOURCES)} | changed
    command = [sys.executable, "-W", "ignore", "-c", DRAW, str(folder)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    "changed",
    [
        {"MPLBACKEND": "module://matplotlib_inline.backend_inline_of_nobody"},
        {"MPLBACKEND": "TkAgg"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "latin-1"},
        {"SOURCE_DATE_EPOCH": "1", "TZ": "Asia/Tokyo"},
        {"HOME": "/nonexistent", "MPLCONFIGDIR": "/nonexistent"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_the_environment_changes_no_byte_of_a_figure(changed: dict[str, str], drawn: str, tmp_path: Path) -> None:
    assert draw_with(changed, tmp_path) == drawn


@pytest.mark.parametrize("style", [STYLE.encode(), b"text.usetex: \xff\xfe"], ids=["styles", "not text"])
def test_a_matplotlibrc_changes_no_byte_of_a_figure(style: bytes, drawn: str, tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_bytes(style)
    (tmp_path / "out").mkdir()
    assert draw_with({"MATPLOTLIBRC": str(tmp_path / "matplotlibrc")}, tmp_path / "out") == drawn


# --- caches and folders that cannot be written ----------------------------------------------------------------------

RUN = """
import resource, sys
import numpy as np
from negspike import SpikingNetwork, simulate

ones = np.ones(2)
layer = dict(weight=np.ones((2, 1, 2, 2)), gamma=ones, beta=ones * 0, mean=ones * 0, var=ones, eps=1e-5)
network = SpikingNetwork.from_batchnorm("2", (1, 2, 2), 1, [layer], np.ones((2, 3)))
if "full" in sys.argv:
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))  # as a disk that is full
images = np.ones((1, 1, 2, 2))
# the loops of the integer ANN are compiled and kept as the engine is, in a second and not in 20
print(next(iter(network.activations(images).values())).ravel().tolist())  # inputs of 4, steps of 1/2
if "engine" in sys.argv:
    print(simulate(network, images, timesteps=3, engine="event").spikes.tolist())
"""


def ran(command: list[str], **changed: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA", "XDG"))}
    environment |= {"PYTHONPATH": str(SOURCES)} | changed
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd="/")
    assert not result.returncode, result.stderr[-2000:]
    return result.stdout


EXPECTED, SIMULATED = "[8, 8]\n", "[[2, 4, 6]]\n"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["full", "a file"])
def test_a_cache_that_fails_is_no_reason_to_fail(kind: str, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    if kind == "a file":
        cache.write_text("in its place")
    assert ran([sys.executable, "-c", RUN, kind], NUMBA_CACHE_DIR=str(cache)) == EXPECTED
    assert not [*cache.rglob("*.nbc")]


@pytest.mark.slow
def test_neither_is_numbas_switch_nor_a_cache_that_is_damaged(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RUN]
    assert ran(command, NUMBA_CACHE_DIR=str(tmp_path), NUMBA_DISABLE_JIT="1") == EXPECTED
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert files
    for number, file in enumerate(files):
        file.write_bytes((b"", b"\0" * 100, file.read_bytes()[:200])[number % 3])
    assert ran(command, NUMBA_CACHE_DIR=str(tmp_path)) == EXPECTED


@pytest.mark.slow
@pytest.mark.parametrize("home", [True, False], ids=["a home", "no home"])
def test_copies_of_the_same_sources_are_compiled_once(home: bool, tmp_path: Path) -> None:
    """Changed ones anew; so are those beside which the machine code is kept, where there is no home."""
    copies = [tmp_path / name for name in ("one", "another")]
    for copy in copies:
        shutil.copytree(SOURCES / "negspike", copy / "negspike", ignore=shutil.ignore_patterns("__pycache__"))
    place = tmp_path / "cache" if home else copies[0]
    changed = {"XDG_CACHE_HOME": str(tmp_path / "cache")} if home else {"HOME": "/dev/null"}
    kept: list[dict[str, int]] = []
    for copy in (copies[0], copies[1] if home else copies[0], copies[0]):
        if len(kept) == 2:
            (copy / "negspike/spiking/event/rows.py").open("a").write("# changed\n")
        assert ran([sys.executable, "-c", RUN], PYTHONPATH=str(copy), **changed) == EXPECTED
        kept.append({str(file): file.stat().st_mtime_ns for file in place.rglob("*.nbc")})
    assert kept[0] and kept[0] == kept[1] and len(kept[2]) == 2 * len(kept[0])


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[list[str]]:
    """What runs a command as in a container: the package cannot be written, and there is no home."""
    can = shutil.which("unshare") and not subprocess.run(["unshare", "-rm", "true"], check=False).returncode
    if not can:
        pytest.skip("no namespaces of one's own here")
    package = tmp_path / "package"
    shutil.copytree(SOURCES / "negspike", package / "negspike", ignore=shutil.ignore_patterns("__pycache__"))
    script = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && shift && exec "$@"'
    yield ["unshare", "-rm", "sh", "-c", script, "sh", str(package)]


@pytest.mark.slow
@pytest.mark.parametrize("cache", [True, False], ids=["a cache", "no cache"])
def test_a_read_only_installation(cache: bool, read_only: list[str], tmp_path: Path) -> None:
    """Without a cache the whole engine is compiled, and Numba's switch, which would leave it to Python, is on too."""
    changed = {"XDG_CACHE_HOME": str(tmp_path / "cache")} if cache else {"NUMBA_DISABLE_JIT": "1"}
    command = [*read_only, sys.executable, "-c", RUN, "" if cache else "engine"]
    changed |= {"HOME": "/dev/null", "PYTHONPATH": read_only[-1], "PYTHONDONTWRITEBYTECODE": "1"}
    assert ran(command, **changed) == EXPECTED + ("" if cache else SIMULATED)
    assert not cache or list((tmp_path / "cache").rglob("*.nbc"))


# --- objects --------------------------------------------------------------------------------------------------------


def all_classes() -> list[type]:
    names = [module.name for module in pkgutil.walk_packages(negspike.__path__, "negspike.")]
    names = [name for name in names if "__main__" not in name]
    modules = [importlib.import_module(name) for name in names]
    return [one for m in modules for one in vars(m).values() if isinstance(one, type) and one.__module__ == m.__name__]


ARRAYS = ("ndarray", "Tensor", "Counts", "Series")


def test_objects_compare_and_hash_without_raising() -> None:
    """Arrays compare entry by entry, and mappings have no hash: what holds some is compared by identity."""
    classes = [one for one in all_classes() if dataclasses.is_dataclass(one)]
    assert len(classes) > 20
    for one in classes:
        if not one.__dataclass_params__.eq:  # type: ignore[attr-defined]
            continue
        for field in dataclasses.fields(one):
            kind = str(field.type)
            assert not any(word in kind for word in ARRAYS), f"{one}: {field.name}"
            hashed = field.hash is not False and one.__hash__ is not None
            assert not (hashed and kind.startswith(("dict", "list", "Mapping", "set["))), f"{one}: {field.name}"


def test_networks_logs_and_reports_compare_and_hash(model: nn.Module, images: np.ndarray) -> None:
    network = convert(quantize(model, images, levels=3).eval(), images[:2])
    log, other = (simulate(network, images, timesteps=3, engine="reference") for _ in range(2))
    report, same = (verify(network, images, engine="reference") for _ in range(2))
    for one in (network, network.nodes[0], network.nodes[-1], log, report):
        assert one == one and one != object() and one in {one: 1}
    assert log != other and report == same and hash(report) == hash(same)


# --- numbers that are none ------------------------------------------------------------------------------------------

ODD: list[Any] = [2.7, 2.0, float("nan"), float("inf"), "2", None, True, [2], {}, 10**400, -(10**400), 1j, -1, 0]
ODD += [
    np.bool_(True),
    np.array(2.5),
    np.array([[1, 2], [3, 4]]),
    b"2",
    object(),
    (1, 2, 3),
    torch.tensor(2.5),
    2**63,
]


def layers() -> list[dict[str, Any]]:
    one, zero = np.ones(2), np.zeros(2)
    return [{"weight": np.ones((2, 1, 2, 2)), "gamma": one, "beta": zero, "mean": zero, "var": one, "eps": 0.1}]


def chain(**changed: Any) -> SpikingNetwork:
    given: dict[str, Any] = {"topology": "2", "input_shape": (1, 2, 2), "k": 1, "layers": layers(), "padding": "same"}
    given |= {"classifier": np.ones((2, 3)), "weight_bits": 16}
    return from_batchnorm(**(given | changed))


def layer(**changed: Any) -> SpikingNetwork:
    return chain(layers=[layers()[0] | changed])


def simulated(**changed: Any) -> object:
    given: dict[str, Any] = {"images": np.ones((2, 1, 2, 2)), "timesteps": 3, "engine": "reference"}
    return simulate(chain(), **(given | changed))


def verified(**changed: Any) -> object:
    given: dict[str, Any] = {"images": np.ones((2, 1, 2, 2)), "timesteps": 3, "engine": "reference"}
    return verify(chain(), **(given | changed))


def quantised(**changed: Any) -> object:
    plain = nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(2, 3)).eval()
    given: dict[str, Any] = {"model": plain, "calibration": np.ones((2, 1, 2, 2)), "levels": 3}
    return quantize(**(given | changed))


def converted(**changed: Any) -> object:
    plain = nn.Sequential(nn.Conv2d(1, 2, 2), QuantReLU(k=1), nn.Flatten(), nn.Linear(2, 3)).eval()
    given: dict[str, Any] = {"model": plain, "example": np.ones((2, 1, 2, 2))}
    return convert(**(given | changed))


def rectifier(**changed: Any) -> object:
    return QuantReLU(**(changed if {"k", "step"} & changed.keys() else {"k": 1} | changed))


def signed(**changed: Any) -> object:
    return QuantIdentity(**({"low": -3, "high": 3} | changed))


TAKE: list[tuple[Callable[..., object], str]] = [
    *((simulated, name) for name in ("images", "labels", "timesteps", "batch_size", "threads", "engine", "device")),
    *((verified, name) for name in ("images", "timesteps", "threads", "engine", "device")),
    *((chain, name) for name in ("topology", "input_shape", "k", "layers", "classifier", "padding", "weight_bits")),
    *((layer, name) for name in ("weight", "gamma", "beta", "mean", "var", "eps", "bias", "other")),
    *((quantised, name) for name in ("model", "calibration", "levels")),
    *((converted, name) for name in ("model", "example")),
    *((rectifier, name) for name in ("k", "step", "levels")),
    (signed, "step"),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("call", "name"), TAKE, ids=lambda one: getattr(one, "__name__", one))
def test_what_is_no_number_is_one_line(call: Callable[..., object], name: str) -> None:
    """Taken where it makes sense, or refused with one line; never something from deep inside."""
    for odd in ODD:
        try:
            call(**{name: odd})
        except InputError as error:
            assert len(str(error).splitlines()) == 1, f"{odd!r}: {error}"
        except Exception as error:
            raise AssertionError(f"{odd!r}: {type(error).__name__}: {error}") from error
        else:
            if name in ("timesteps", "batch_size", "threads", "levels", "k", "weight_bits"):
                assert odd is None or type(odd) is int, f"{odd!r} is taken"
