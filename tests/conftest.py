"""What several tests share: small archives with known pixels, a small trained-on dataset, optional reference files."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Threads that have nothing to do leave the cores to the processes of other tests; PyTorch reads this once.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pytest
import torch
from hypothesis import settings

from negspike.data.archives import read_archives
from negspike.data.dataset import Dataset, load_dataset, save_dataset
from negspike.data.images import prepare_images
from negspike.data.registry import dataset_spec as spec_of

if TYPE_CHECKING:
    from workflow_runs import Finished

torch.set_num_threads(1)
# The same examples on every run: a continuous integration that fails by chance is soon ignored.
settings.register_profile("repeatable", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("repeatable")

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
CIFAR_FOLDER = "cifar-10-batches-bin"
CIFAR_MEMBERS = [f"{CIFAR_FOLDER}/data_batch_{i}.bin" for i in range(1, 6)] + [f"{CIFAR_FOLDER}/test_batch.bin"]

needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the folder 'shared' with reference data is not beside the repository"
)

# Fixtures that run the workflow: tests with them are slow.
SLOW_FIXTURES = {"finished_copy", "undisturbed"}
# Files that share a finished experiment, and what takes longest, which starts first; Slurm's tests mostly wait.
SHARE_AN_EXPERIMENT = ("test_workflow", "test_reruns", "test_conventions", "test_cost")
FIRST = ("test_slurm", "finished_copy", "test_faults", "test_event", "test_engines")


def group_of(nodeid: str) -> str:
    """What runs in one process: a file, whose tests share its fixtures, or all files that share the experiment."""
    file = Path(nodeid.partition("::")[0]).stem
    return "finished_copy" if file in SHARE_AN_EXPERIMENT else file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    groups = [group_of(item.nodeid) for item in items]
    ranks = [FIRST.index(group) if group in FIRST else len(FIRST) for group in groups]
    items[:] = [item for _, item in sorted(zip(ranks, items, strict=True), key=lambda pair: pair[0])]
    for item in items:
        if SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """pytest-xdist (make test) with these groups, in this order. Its --dist loadgroup finds none with pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    config.option.loadscopereorder = False
    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = group_of
    return scheduler


def cifar_records(count: int, seed: int) -> np.ndarray:
    """(count, 3073) uint8: a label from 0 to 9, then the red, green and blue plane of a 32x32 image."""
    rows = np.random.default_rng(seed).integers(0, 256, (count, 3073), dtype=np.uint8)
    rows[:, 0] %= 10
    return rows


def write_tar(path: Path, members: Iterable[tuple[tarfile.TarInfo | str, bytes]]) -> Path:
    """A gzipped tar archive of (name or ready-made header, content)."""
    with tarfile.open(path, "w:gz") as tar:
        for header, content in members:
            if isinstance(header, str):
                header = tarfile.TarInfo(header)
                header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return path


def write_cifar10(path: Path, counts: tuple[int, ...] = (3, 2, 1, 4, 2, 5)) -> tuple[Path, list[np.ndarray]]:
    """CIFAR-10's binary archive with so many images in each of its six members, and their records."""
    batches = [cifar_records(count, seed) for seed, count in enumerate(counts)]
    members = [(name, batch.tobytes()) for name, batch in zip(CIFAR_MEMBERS, batches, strict=True)]
    return write_tar(path, [(f"{CIFAR_FOLDER}/readme.html", b"<html>"), *members]), batches


def idx_bytes(array: np.ndarray, shape: tuple[int, ...] | None = None, kind: int = 8) -> bytes:
    """An IDX file, not yet compressed; ``shape`` overrides what the header promises."""
    shape = array.shape if shape is None else shape
    return bytes((0, 0, kind, len(shape))) + np.array(shape, ">u4").tobytes() + array.tobytes()


def write_fashion_mnist(folder: Path, train: int = 12, test: int = 3) -> tuple[dict[str, Path], dict[str, np.ndarray]]:
    """Fashion-MNIST's four files with random images, and the arrays in them."""
    random = np.random.default_rng(7)
    arrays: dict[str, np.ndarray] = {}
    paths = {}
    for split, count in (("train", train), ("test", test)):
        arrays[f"{split}_images"] = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[f"{split}_labels"] = random.integers(0, 10, count, dtype=np.uint8)
    for name, array in arrays.items():
        paths[name] = folder / f"{name}.gz"
        paths[name].write_bytes(gzip.compress(idx_bytes(array), mtime=0))
    return paths, arrays


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Threads and determinism as at the start, whatever a test before has set for its process."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """scikit-learn's digits as the workflow stores them."""
    spec = spec_of("digits")
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    save_dataset(spec, read_archives(spec, {}), path)
    return load_dataset("digits", path)


@pytest.fixture(scope="session")
def digit_images(digits: Dataset) -> torch.Tensor:
    """A few prepared test images, (40, 1, 8, 8) float32."""
    return torch.from_numpy(prepare_images(digits.spec, digits.test.pixels[:40]))


@pytest.fixture(scope="session")
def finished_copy(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A copy of the repository with a finished experiment; who changes it restores it."""
    from workflow_runs import run_experiment

    folder = tmp_path_factory.mktemp("copy") / "negspike"
    folder.mkdir()
    return run_experiment(folder)


class OneLine:
    """``with OneLine(InputError, "a", "b"):`` the error is raised, on one line, and names each of these."""

    def __init__(self, error: type[Exception], *words: str) -> None:
        self.error, self.words = error, words

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> bool:
        assert kind is not None, f"no {self.error.__name__} raised; expected one that names {self.words}"
        if not isinstance(error, self.error):
            return False
        message = str(error)
        assert message and len(message.splitlines()) == 1, f"not one line: {message!r}"
        for word in self.words:
            assert word in message, f"{word!r} is not in {message!r}"
        return True
