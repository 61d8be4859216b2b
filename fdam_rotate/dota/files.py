"""Output files: written beside the target and renamed; names that stay inside a folder. See also `outputs`."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fdam_rotate.dota.errors import DotaError

__all__ = ["HALF_WRITTEN", "atomic_path", "check_file_name", "move_file", "sha256_of", "write_text"]

_PREFIX = ".tmp-"

#: Names (as for ``glob``) that `atomic_path` gives to files that are being written; a killed process leaves them.
HALF_WRITTEN = f"{_PREFIX}????????.*"


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """A temporary path beside ``target``, renamed onto it when the block ends and removed if the block fails."""
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=_PREFIX, suffix=target.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)  # mkstemp's 0600 would keep colleagues out
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def move_file(source: str | Path, target: str | Path) -> None:
    """Rename a file or link; from another disc (a volume or link as the output folder) it is copied, all or nothing."""
    source, target = Path(source), Path(target)
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        if source.is_symlink():
            target.symlink_to(source.readlink())
        else:
            with atomic_path(target) as temporary:
                shutil.copyfile(source, temporary)
        source.unlink()


def write_text(target: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8, its line ends as they are, all or nothing."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(text.encode("utf-8"))


def sha256_of(path: str | Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_file_name(name: str) -> str:
    """``name`` if it can be the name of a file inside an output folder.

    Raises:
        DotaError: it is empty, ``.`` or ``..``, or holds a path separator, a NUL or a line end.
    """
    if not name or name in {".", ".."} or any(c in name for c in "/\\\0\n\r"):
        raise DotaError(f"{name!r} cannot be a file name: it would leave the output folder")
    return name
