"""Reading files that others wrote: no small file may take memory without limit."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from negspike.errors import InputError

# What a header may take on its word, in bytes; more only from a file that is not much smaller.
HARMLESS = 1 << 28
LARGEST_COMPRESSION = 50
_LARGEST_TAR_HEADER = 1 << 20
# Members of a tar archive, and compressed bytes of each of many of them.
_HARMLESS_MEMBERS = 10_000
_LEAST_MEMBER = 16
_TAR_HEADERS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


def refuse_bomb(where: Path | str, promised: int, stored: int) -> None:
    """Refuse data whose header promises far more than was stored, before there is memory for it.

    Raises:
        InputError: ``promised`` bytes from ``stored`` ones are not those of a dataset.
    """
    if promised > max(HARMLESS, LARGEST_COMPRESSION * stored):
        raise InputError(f"{where}: its header promises {promised} bytes of data, from {stored} that are stored")


def tar_members(tar: tarfile.TarFile, path: Path) -> Iterator[tarfile.TarInfo]:
    """The members of a tar archive in their order, unless they are more than a file of this size can mean.

    Raises:
        InputError: there are too many of them.
    """
    most = _HARMLESS_MEMBERS + path.stat().st_size // _LEAST_MEMBER
    for number, member in enumerate(tar):
        if number == most:
            raise InputError(f"{path}: more than {most} members, too many for its size")
        yield member
    # to the end of what is compressed, where its checksum is
    rest = HARMLESS
    while tar.fileobj is not None and (part := tar.fileobj.read(1 << 20)):
        rest -= len(part)
        if rest < 0:
            raise InputError(f"{path}: more than {HARMLESS} bytes after its last member")


class BoundedTarInfo(tarfile.TarInfo):
    """Tar headers of a reasonable size: tarfile reads a name or its attributes whole, however long they are."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """As in tarfile."""
        info = super().frombuf(buf, encoding, errors)
        if info.type in _TAR_HEADERS and info.size > _LARGEST_TAR_HEADER:
            raise tarfile.ReadError(f"a header of {info.size} bytes")
        return info
