"""Whether a spiking network is the one that a job is about."""

from __future__ import annotations

from pathlib import Path

from negspike.data.dataset import Dataset
from negspike.errors import InputError
from negspike.precision import Precision
from negspike.spiking.graph import SpikingNetwork


def check_belongs(network: SpikingNetwork, path: Path, precision: Precision, dataset: Dataset) -> None:
    """Refuse to evaluate a spiking network as another precision or on other data than its own.

    Raises:
        InputError: which of the two does not belong to it.
    """
    converted = Precision.parse(str(network.origin.get("precision", f"k{network.origin.get('k')}")))
    if converted != precision:
        raise InputError(f"{path}: converted for {converted}, it cannot be evaluated as {precision}")
    name, checksum = network.origin.get("dataset"), network.origin.get("data_checksum")
    if name is not None and name != dataset.spec.name:
        raise InputError(f"{path}: trained on {name}, it cannot be evaluated on {dataset.spec.name}")
    if checksum is not None and checksum != dataset.checksum:
        raise InputError(
            f"{path}: trained on other {dataset.spec.name} images (checksum {checksum[:12]}..., these have "
            f"{dataset.checksum[:12]}...); train again or point 'data' at the images it belongs to"
        )
