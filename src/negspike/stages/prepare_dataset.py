"""From the archives of a data set to its images and labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from negspike.data.archives import read_archives
from negspike.data.dataset import save_dataset
from negspike.data.registry import dataset_spec

Report = Callable[[str], None]


def prepare_dataset(dataset: str | Mapping[str, Any], files: Mapping[str, Path], output: Path, report: Report) -> None:
    """Parse the archives of a dataset, known by name or described, and write its images as one ``.npz``."""
    spec = dataset_spec(dataset)
    arrays = read_archives(spec, files)
    save_dataset(spec, arrays, output)
    report(f"{spec.name}: {len(arrays['train_labels'])} training and {len(arrays['test_labels'])} test images")
