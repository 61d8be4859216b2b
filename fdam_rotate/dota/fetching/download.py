"""Fetch archives over HTTP: resumed where they stopped, checked before they get their name.

While a file is fetched it is called ``NAME.part``. A connection that breaks is taken up again with an HTTP ``Range``
request, in the same run or the next one; the SHA-256 is checked over the whole file, and only then ``.part`` goes.

``ARCHIVES`` lists the copies of DOTA (train and val) that TorchGeo hosts and its checksums, as in
``torchgeo/datasets/dota.py`` (https://github.com/torchgeo/torchgeo, MIT). The host's own listing gives the sizes.
"""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fdam_rotate.dota.errors import DownloadError
from fdam_rotate.dota.files import check_file_name, sha256_of
from fdam_rotate.dota.progress import progress_bar

__all__ = ["ARCHIVES", "TERMS", "Archive", "check_space", "fetch", "select"]

#: What a user has to know and to accept before anything is fetched.
TERMS = """DOTA's terms (https://captain-whu.github.io/DOTA/dataset.html): all images and their annotations can be used
for academic purposes only; any commercial use is prohibited. Images from Google Earth are also under Google Earth's
terms of use. DOTA's own page offers the data too (Google Drive and Baidu Drive, by hand), test images only there."""

_HOST = "https://huggingface.co/datasets/isaaccorley/dota/resolve/672e63236622f7da6ee37fca44c50ac368b77cab/"
_CHUNK = 1 << 20
_ALL = ("v1.0", "v1.5", "v2.0")


@dataclass(frozen=True)
class Archive:
    """A file to fetch.

    Attributes:
        name: file name.
        url: http or https.
        sha256: checksum of the whole file, 64 hexadecimal digits.
        size: about how many bytes; it only serves the check for disk space beforehand.
        versions: the versions of DOTA that need it.
        split: train, val or test.
        kind: ``images`` or ``annotations``.
    """

    name: str
    url: str
    sha256: str
    size: int
    versions: tuple[str, ...]
    split: str
    kind: str


def _hosted(name: str, sha256: str, size: int, versions: tuple[str, ...]) -> Archive:
    _, kind, split = name.removesuffix(".tar.gz").split("_")
    return Archive(name, _HOST + name, sha256, size, versions, split, kind)


#: v1.5 has the images of v1.0 with other annotations; v2.0 adds images to them.
ARCHIVES: tuple[Archive, ...] = (
    _hosted("dotav1.0_images_train.tar.gz", "2fd69eeb9ba0c775db007c7fe11d7708fb905a67ca3a663874147434db68e7ac",
            10_183_034_823, _ALL),
    _hosted("dotav1.0_images_val.tar.gz", "f7ab9c570b3aba66d07d6ec91801f76c840fde2ffc12b4f8efa02c90aeb32c83",
            3_331_270_337, _ALL),
    _hosted("dotav2.0_images_train.tar.gz", "ceccafe50e4e49c5f1ad6b0bce917e356c4df29321fd79037c77912bad594989",
            7_720_000_000, ("v2.0",)),
    _hosted("dotav2.0_images_val.tar.gz", "76005d65bc1d0e8ee2dd4b4c2922b47fddc73d07dd93a87eb5f022d22727a0fd",
            1_260_000_000, ("v2.0",)),
    _hosted("dotav1.0_annotations_train.tar.gz", "79096d14f5065e1582af47817b5d7c2d1c1611cadc7f1ccc3f868ded1c41a9f6",
            1_495_981, ("v1.0",)),
    _hosted("dotav1.0_annotations_val.tar.gz", "879e8f013a5231cb52c3dc95b5ade7d4aeb3a0d3e600cb658a5a4d13ea7116c2",
            436_355, ("v1.0",)),
    _hosted("dotav1.5_annotations_train.tar.gz", "0c8fe411f50331dcb0d1aeef90606045e24d6f34b225630f8b98af3044c469fc",
            3_730_000, ("v1.5",)),
    _hosted("dotav1.5_annotations_val.tar.gz", "d9a5c8412f0094fcba088c8b41e1f214e5dbc22da415beba32289d6b9f32e2a5",
            1_220_000, ("v1.5",)),
    _hosted("dotav2.0_annotations_train.tar.gz", "f142824f6eafef3b1922f7ff1583375e4d59d2a841d4670c312be854652631a6",
            4_770_000, ("v2.0",)),
    _hosted("dotav2.0_annotations_val.tar.gz", "66cde2e76f131a55243904884b68ef450a73b1404668001df92bc94dde4a2e25",
            1_430_000, ("v2.0",)),
)  # fmt: skip


def select(archives: Sequence[Archive], version: str, splits: Sequence[str]) -> list[Archive]:
    """The archives of a version and its splits, images first.

    Raises:
        DownloadError: a split has no images or no annotations in the table.
    """
    chosen = [a for kind in ("images", "annotations") for a in archives if a.kind == kind]
    chosen = [a for a in chosen if version in a.versions and a.split in splits]
    for split in splits:
        if not any(a.split == split and a.kind == "images" for a in chosen):
            have = sorted({f"{v} {a.split}" for a in archives for v in a.versions})
            raise DownloadError(f"no archive of {version} {split}; there are {', '.join(have)}")
    return chosen


def check_space(folder: Path, needed: int) -> None:
    """Check that the file system of ``folder`` has room.

    Raises:
        DownloadError: less than ``needed`` bytes are free.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DownloadError(f"{folder}: {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free")


def fetch(
    archive: Archive,
    folder: Path,
    *,
    retries: int = 5,
    wait: float = 2.0,
    timeout: float = 60.0,
    progress: bool = False,
) -> Path:
    """Fetch one archive into ``folder``, or go on with its ``.part``; what is there with the right checksum is kept.

    Args:
        archive: what to fetch.
        folder: where to; it exists.
        retries: how often in a row a broken connection is taken up without a byte gained.
        wait: seconds before the first of these, doubled for each further one.
        timeout: seconds without a byte after which a connection counts as broken.
        progress: show a progress bar on stderr.

    Raises:
        DownloadError: the address is refused or not found, the connection keeps breaking, or the checksum is wrong.
    """
    if not archive.url.startswith(("https://", "http://")):
        raise DownloadError(f"{archive.name}: only http and https are fetched, got {archive.url!r}")
    target = folder / check_file_name(archive.name)
    part = target.with_name(target.name + ".part")
    if target.is_file():
        if sha256_of(target) == archive.sha256:
            return target
        set_aside = target.with_name(target.name + ".bad")
        if os.path.lexists(set_aside):
            raise DownloadError(f"{target} is not the file wanted (SHA-256); move it away, and {set_aside} too")
        os.replace(target, set_aside)
    for attempt in (1, 2):
        resumed = part.exists() and part.stat().st_size > 0
        with progress_bar(None, archive.name, "B", shown=progress, unit_scale=True) as bar:
            _fill(archive, part, retries, wait, timeout, bar)
        found = sha256_of(part)
        if found == archive.sha256:
            os.replace(part, target)
            return target
        part.unlink()
        if not resumed or attempt == 2:  # what a resumed file began with may have been something else: from the start
            break
    raise DownloadError(
        f"{archive.url}: SHA-256 {found}, expected {archive.sha256}; the file was removed. A proxy, or another file on "
        "the host, may be the cause"
    )


def _fill(archive: Archive, part: Path, retries: int, wait: float, timeout: float, bar: Any) -> None:
    """Append to ``part`` until the file is whole."""
    failures = 0
    first = part.stat().st_size if part.exists() else 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            if _request(archive, part, timeout, bar):
                return
            reason = "the connection ended early"
        except urllib.error.HTTPError as error:
            if error.code not in _PASSING:
                raise DownloadError(f"{archive.url}: HTTP {error.code} {error.reason}") from None
            reason = f"HTTP {error.code} {error.reason}"
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
                raise DownloadError(f"{part}: {error.strerror}; free some space and run the same command") from None
            reason = str(getattr(error, "reason", error)) or type(error).__name__
            if before == first and isinstance(getattr(error, "reason", None), (socket.gaierror, ssl.SSLError)):
                raise DownloadError(f"{archive.url}: {reason}; is this machine online?") from None
        after = part.stat().st_size if part.exists() else 0
        failures = 0 if after > before else failures + 1
        if failures > retries:
            raise DownloadError(
                f"{archive.url}: {reason}, {failures} times in a row; {after} bytes are kept in {part.name}, run the "
                "same command again to go on"
            )
        time.sleep(wait * 2.0 ** max(0, failures - 1))


#: HTTP statuses that may pass.
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
#: No space, quota exceeded, read-only file system.
_DISK_ERRORS = frozenset({28, 122, 30})


def _request(archive: Archive, part: Path, timeout: float, bar: Any) -> bool:
    """One request; whether ``part`` is whole after it."""
    start = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "fdam_rotate", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(archive.url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not start:
            raise
        # the range begins at or past the end: whole if it ends exactly there, else not this file
        whole = error.headers.get("Content-Range", "").rpartition("/")[2] == str(start)
        if not whole:
            part.unlink()
        return whole
    with response:
        expected, start = _expected_size(response, start)
        if expected is not None:
            check_space(part.parent, expected - start)
        bar.total = expected
        bar.n = start
        with part.open("r+b" if start else "wb") as file:
            file.seek(start)
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                start += len(chunk)
                bar.update(len(chunk))
    return expected is None or start >= expected


def _expected_size(response: Any, start: int) -> tuple[int | None, int]:
    """Size of the whole file (None if the host does not say) and the byte at which this answer begins."""
    if response.status == 206:
        given, _, total = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        first = given.partition("-")[0]
        if not first.isdigit() or int(first) > start:
            raise http.client.HTTPException(f"asked for byte {start}, got range {given!r}")
        return (int(total) if total.isdigit() else None), int(first)
    length = response.headers.get("Content-Length", "")
    return (int(length) if length.isdigit() else None), 0  # the host knows no ranges: from the start
