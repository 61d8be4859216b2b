"""Unpack archives of DOTA (tar, tar.gz, zip) into ``images/`` and ``labelTxt/``, whatever folders they use inside.

A member is never written where its path says: only its file name counts, in the folder that its kind asks for. An
archive with a path that leaves it (absolute, ``..``), a link or a device is refused nonetheless: it is not DOTA's.
"""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from fdam_rotate.dota.archives import ARCHIVE_ERRORS, is_damage
from fdam_rotate.dota.errors import DotaError, DownloadError
from fdam_rotate.dota.files import atomic_path, check_file_name
from fdam_rotate.dota.layout import IMAGE_SUFFIXES
from fdam_rotate.dota.outputs import check_links
from fdam_rotate.dota.progress import progress_over

__all__ = ["UnpackSummary", "unpack"]

#: Folders of upright boxes, which DOTA ships beside the oriented ones, and what file managers leave behind.
_UPRIGHT = ("hbb", "reclabel", "task2")
_JUNK = ("__macosx",)


@dataclass(frozen=True)
class UnpackSummary:
    """Files written or found already there, by folder, and members passed over, by reason."""

    images: int
    labels: int
    passed: Counter[str]


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    kind: str  # file, folder, or what it is instead
    open: Callable[[], IO[bytes]]


def unpack(archive: Path, folder: Path, *, version: str | None = None, progress: bool = False) -> UnpackSummary:
    """Unpack images to ``folder/images`` and oriented label files to ``folder/labelTxt``.

    Each file is written beside its place and renamed, so a run that is stopped leaves none in half; the next one passes
    over what is there with the right size.

    Args:
        archive: a .tar, .tar.gz, .tgz or .zip file.
        folder: where to, made if it is not there.
        version: where the archive has folders named ``version1.0`` and so on, the one to take (``v1.0``).
        progress: show a progress bar on stderr.

    Raises:
        FileNotFoundError: there is no such archive.
        DownloadError: it is damaged or of another kind, unsafe, or holds two files of one name, or a file that differs
            from the one that is there.
        OutputExistsError: a folder is a link that leads out of ``folder``.
    """
    if not archive.is_file():
        raise FileNotFoundError(f"archive {archive} does not exist")
    check_links(folder, ("images", "labelTxt"))
    seen: dict[str, str] = {}
    counts: Counter[str] = Counter()
    passed: Counter[str] = Counter()
    with _members(archive) as members:
        for member in progress_over(members, f"unpack {archive.name}", "file", shown=progress):
            path = _safe(member, archive)
            if member.kind == "folder":
                continue
            place = _place(path, version, archive.stem)
            if place not in ("images", "labelTxt"):
                passed[place] += 1
                continue
            key = f"{place}/{path.name}"
            if key in seen:
                raise DownloadError(f"{archive}: two members for {key}: {seen[key]} and {member.name}")
            seen[key] = member.name
            counts[place] += 1
            _write(member, folder / place / path.name, archive)
    return UnpackSummary(counts["images"], counts["labelTxt"], passed)


def _safe(member: _Member, archive: Path) -> PurePosixPath:
    """The member's path, if it stays inside and is a plain file or folder."""
    name = member.name.replace("\\", "/")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or ":" in name or "\0" in name:
        raise DownloadError(f"{archive}: refused: member {member.name!r} leaves the folder; this is not DOTA's archive")
    if member.kind not in ("file", "folder"):
        raise DownloadError(
            f"{archive}: refused: member {member.name!r} is a {member.kind}; this is not DOTA's archive"
        )
    if member.kind == "file":
        try:
            check_file_name(path.name)
        except DotaError as error:
            raise DownloadError(f"{archive}: refused: {error}") from None
    return path


def _place(path: PurePosixPath, version: str | None, archive: str) -> str:
    """``images``, ``labelTxt``, or why the member is passed over; the archive's name counts as a folder."""
    folders = [part.lower() for part in (archive, *path.parts[:-1])]
    if any(part in _JUNK for part in folders) or path.name.startswith("."):
        return "hidden files"
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return "images"
    if suffix in (".zip", ".tar", ".gz", ".tgz"):
        return "archives within it (unpack those, and name them too)"
    if suffix != ".txt":
        return f"{suffix or 'nameless'} files"
    if any(word in part for part in folders for word in _UPRIGHT):
        return "labels of upright boxes"
    versions = [part for part in folders if part.startswith("version")]
    if version is not None and versions and f"version{version.removeprefix('v')}" not in versions:
        return "labels of other versions"
    return "labelTxt"


def _write(member: _Member, target: Path, archive: Path) -> None:
    if target.is_file():
        if target.suffix.lower() == ".txt":  # small, and of other versions and kinds of boxes under the same names
            with member.open() as source:
                if source.read() == target.read_bytes():
                    return
            raise DownloadError(
                f"{archive}: {member.name!r} is not what {target} holds: labels of another version of DOTA, or of "
                "upright boxes? Give one kind of labels only, or remove the file"
            )
        if target.stat().st_size == member.size:
            return
        raise DownloadError(
            f"{archive}: {member.name!r} has {member.size} bytes, {target} has {target.stat().st_size}. "
            "Move that file away to take the archive's"
        )
    with member.open() as source, atomic_path(target) as temporary, temporary.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)
        if file.tell() != member.size:
            raise DownloadError(f"{archive}: member {member.name!r} ends early")


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[_Member]]:
    """The members of an archive, in its order; damage becomes one error."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as package:
                yield _zip_members(package)
        else:
            # "r|*" reads on without seeking back: the first pass over a compressed file of 10 GB is the only one
            with tarfile.open(archive, "r|*") as package:
                yield _tar_members(package)
    except ARCHIVE_ERRORS as error:
        if not is_damage(error):
            raise
        raise DownloadError(f"{archive}: damaged, or no tar or zip file: {error}") from None


def _zip_members(package: zipfile.ZipFile) -> Iterator[_Member]:
    for info in package.infolist():
        link = (info.external_attr >> 16) & 0o170000 == 0o120000
        kind = "folder" if info.is_dir() else "symbolic link" if link else "file"
        yield _Member(info.filename, info.file_size, kind, partial(package.open, info))


def _tar_members(package: tarfile.TarFile) -> Iterator[_Member]:
    for info in package:
        kind = (
            "file"
            if info.isreg()
            else "folder"
            if info.isdir()
            else "link"
            if info.issym() or info.islnk()
            else "device"
        )

        def opened(info: tarfile.TarInfo = info) -> IO[bytes]:
            file = package.extractfile(info)
            if file is None:
                raise tarfile.ReadError(f"{info.name} cannot be read")
            return file

        yield _Member(info.name, info.size, kind, opened)
