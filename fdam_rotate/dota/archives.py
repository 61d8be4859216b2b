"""Which errors say that a zip or tar file is damaged, and not the disc that it lies on."""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from typing import Any

__all__ = ["ARCHIVE_ERRORS", "is_damage"]

_lzma: Any = getattr(zipfile, "lzma", None)  # None where Python was built without it

# Damaged in one way or another, encrypted, or packed in a way that Python does not know.
_DAMAGE: tuple[type[Exception], ...] = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, RuntimeError),
    *(UnicodeDecodeError, *([_lzma.LZMAError] if _lzma else [])),
)

#: What reading an archive may raise; `is_damage` tells what it is.
ARCHIVE_ERRORS: tuple[type[Exception], ...] = (*_DAMAGE, OSError)


def is_damage(error: Exception) -> bool:
    """Whether an error of `ARCHIVE_ERRORS` is the archive's; bz2, gzip and zip raise OSErrors without a number."""
    return not isinstance(error, OSError) or error.errno is None
