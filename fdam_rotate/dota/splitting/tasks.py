"""What a worker is given and gives back, and how it writes."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.problems import Problem
from fdam_rotate.dota.splitting.options import SplitOptions

__all__ = ["RECORDS", "STATE", "ImageTask", "OutputError", "TaskResult", "write_bytes"]

#: What a run keeps in the output folder until it is done, and in it the records of finished images.
STATE = ".split"
RECORDS = ".split/records"

# A write that fails for one of these fails for every other image too.
_FATAL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM, errno.ENOENT}

_AGAIN = "what is finished stays; when that is mended, give the same command again"


class OutputError(DotaError):
    """The output cannot be written: the disk is full, or the folder is gone or closed to us."""


@dataclass(frozen=True)
class ImageTask:
    """One image to split. Paths are absolute, so that a worker may run anywhere on shared storage.

    Attributes:
        image_id: id of the image.
        image: its file.
        label: its label file, or None.
        shown: the two files as the user gave them, for records and messages.
        out: the folder of the output.
        options: the settings.
        previous: the record of an earlier run, which holds if neither file has changed and all patches are there.
    """

    image_id: str
    image: Path
    label: Path | None
    shown: tuple[str, str | None]
    out: Path
    options: SplitOptions
    previous: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class TaskResult:
    """The record of an image for the manifest, or None and the problem for which it was left out."""

    record: dict[str, Any] | None
    problems: Sequence[Problem] = field(default_factory=tuple)


def write_bytes(out: Path, name: str, data: bytes) -> None:
    """Write the file ``name`` of the output: in ``.split``, then renamed, so that it is there whole or not at all.

    Raises:
        OutputError: it cannot be written, and nor can any other file.
        DotaError: its name is too long, or the like.
    """
    temporary = out / STATE / "tmp" / uuid.uuid4().hex
    try:
        temporary.write_bytes(data)
        os.replace(temporary, out / name)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno in _FATAL:
            raise OutputError(f"cannot write {out / name}: {error.strerror}; {_AGAIN}") from None
        raise DotaError(f"cannot write {out / name}: {error.strerror}") from None
