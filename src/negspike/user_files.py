"""Files that a configuration names: in the current folder, or beside one of the files that the configuration is in."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from negspike.errors import InputError
from negspike.files import files_below

# Folders of the files of configuration; set by the workflow for all of its jobs.
FOLDERS = "NEGSPIKE_CONFIG_FOLDERS"
_PUBLISHED = Path(__file__).parent / "resources" / "published"


def find_file(name: str) -> Path:
    """The path of a file or folder, relative if it lies below the current folder.

    Raises:
        InputError: there is none; it says where it was looked for.
    """
    folders = ["", *filter(None, os.environ.get(FOLDERS, "").split(os.pathsep))]
    for folder in folders:
        path = Path(os.path.expanduser(Path(folder, name)))  # noqa: PTH111  unlike Path's, leaves an unknown ~name
        if path.exists():
            return path
    places = ", ".join(dict.fromkeys(str(Path(folder).absolute()) for folder in folders))
    raise InputError(f"{name}: there is no such file; looked for in {places}")


def published_file(name: str) -> Path:
    """The table of published curves that comes with the package under this name, or a file or folder of the user's.

    Raises:
        InputError: there is none.
    """
    table = _PUBLISHED / f"{name}_curves.csv"
    return table if name.isalnum() and table.is_file() else find_file(name)


def listing_checksum(folder: Path) -> str:
    """Of the names and sizes of all files below a folder."""
    files = sorted((path.relative_to(folder).as_posix(), path.stat().st_size) for path in files_below(folder))
    return hashlib.sha256(repr(files).encode()).hexdigest()
