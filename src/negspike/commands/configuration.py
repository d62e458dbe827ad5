"""A configuration laid over the published experiment, as Snakemake does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from negspike.config import Experiment, resolve_config
from negspike.errors import InputError, foreign_file

_RESOURCES = Path(__file__).parents[1] / "resources"
PUBLISHED = _RESOURCES / "config.yaml"


def read_configuration(path: Path | None) -> Experiment:
    """The published experiment with what ``path`` changes of it.

    Raises:
        InputError: the file is missing or not YAML, or what comes out is no configuration.
    """
    config = _read_yaml(PUBLISHED)
    if path is not None:
        config = _laid_over(config, _read_yaml(path))
    try:
        return resolve_config(config)
    except InputError as error:
        raise InputError(f"{path or PUBLISHED}: {error}") from error


def _read_yaml(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"{path}: no such file; a configuration is expected, such as a preset")
    with foreign_file(path, "YAML", "a configuration is expected, such as a preset"):
        return yaml.safe_load(path.read_bytes())


def _laid_over(below: Any, above: Any) -> Any:
    """Mappings merge key by key, anything else is replaced."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return below | {key: _laid_over(below.get(key), entry) for key, entry in above.items()}
