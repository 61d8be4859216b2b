"""Source images: which there are, how large they are, and their pixels.

Every image becomes (H, W, 3) uint8 in OpenCV's order (blue, green, red), the pixels that ``cv2.imread`` gives:

* one band: the same value in all three; a palette: its colours;
* four bands: the fourth (alpha) is dropped;
* 16 bits: the upper byte of each value, ``value // 256``; in a TIFF of several bands ``value / 257``, rounded;
* an orientation in EXIF is applied.

``.png .jpg .jpeg .tif .tiff .bmp`` are read, in any case. The id of an image is its file name without the extension.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.errors import DotaError, ImageReadError
from fdam_rotate.dota.files import check_id
from fdam_rotate.dota.prep.png import stored_png

__all__ = ["IMAGE_SUFFIXES", "Problem", "SourceImage", "image_size", "list_sources", "read_image"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


@dataclass(frozen=True)
class Problem:
    """Something wrong with the input: ``kind`` is one word for counting, ``line`` is 0 where a whole file is meant."""

    kind: str
    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}" if self.line else f"{self.file}: {self.text}"


@dataclass(frozen=True)
class SourceImage:
    """One image to split; ``label`` is its label file, None where there is none."""

    image_id: str
    path: Path
    label: Path | None


def list_sources(
    img_dirs: Sequence[Path], ann_dirs: Sequence[Path | None], problems: list[Problem]
) -> list[SourceImage]:
    """The images of ``img_dirs`` with their label files in ``ann_dirs``, sorted by id.

    Into ``problems`` go images without a label file (``no-label``; they are split as images without objects), label
    files without an image (``no-image``), and images whose id is taken (``clash``) or cannot name a file (``id``),
    which are left out.

    Raises:
        FileNotFoundError: a folder does not exist.
        DotaError: there is no image at all.
    """
    for folder in [*img_dirs, *(a for a in ann_dirs if a is not None)]:
        if not folder.is_dir():
            raise FileNotFoundError(f"folder {folder} does not exist")
    sources: dict[str, SourceImage] = {}
    expected: dict[Path, set[str]] = {ann_dir: set() for ann_dir in ann_dirs if ann_dir is not None}
    for img_dir, ann_dir in zip(img_dirs, ann_dirs, strict=True):
        for path in sorted(img_dir.iterdir()):
            if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith(".") or path.is_dir():
                continue
            image_id = path.stem
            if ann_dir is not None:
                expected[ann_dir].add(image_id)
            if image_id in sources:
                first = sources[image_id].path
                problems.append(Problem("clash", str(path), 0, f"has the id of {first}; it is left out"))
                continue
            try:
                check_id(image_id)
            except DotaError as error:
                problems.append(Problem("id", repr(str(path)), 0, f"{error}; it is left out"))
                continue
            label = None if ann_dir is None else ann_dir / f"{image_id}.txt"
            if label is not None and not label.is_file():
                problems.append(Problem("no-label", str(path), 0, f"there is no label file {label}"))
                label = None
            sources[image_id] = SourceImage(image_id, path, label)
    for ann_dir, ids in expected.items():
        for path in sorted(ann_dir.glob("*.txt")):
            if path.stem not in ids:
                problems.append(Problem("no-image", str(path), 0, "there is no image for this label file"))
    if not sources:
        folders = ", ".join(map(str, img_dirs))
        raise DotaError(f"no image in {folders}; expected files with {' '.join(IMAGE_SUFFIXES)}")
    return [sources[image_id] for image_id in sorted(sources)]


def read_image(path: Path) -> tuple[NDArray[np.uint8], str]:
    """The pixels of an image, (H, W, 3) uint8 in the order blue, green, red, and the file's SHA-256.

    Raises:
        ImageReadError: the file is empty, truncated, damaged or no image.
    """
    data = path.read_bytes()
    if not data:
        raise ImageReadError(f"{path}: the file is empty (0 bytes)")
    if data.startswith(b"\xff\xd8") and not _jpeg_is_whole(data):
        raise ImageReadError(f"{path}: the JPEG file is truncated (no end-of-image marker)")
    digest = hashlib.sha256(data).hexdigest()
    if data.startswith(b"\x89PNG"):
        data = stored_png(data) or data
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ImageReadError(f"{path}: cannot be decoded: {str(error).strip()}") from None
    if image is None:
        raise ImageReadError(f"{path}: cannot be decoded: truncated, damaged, or not an image")
    return np.asarray(image, np.uint8), digest


def _jpeg_is_whole(data: bytes) -> bool:
    """Whether the end-of-image marker follows the scan (decoders fill what is missing with grey and say nothing)."""
    at = 2
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] != b"\xda":
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return data.find(b"\xff\xd9", at) >= 0


def image_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels from the file's header, as the file stores them (before any EXIF orientation).

    Raises:
        ImageReadError: the header cannot be read.
    """
    from PIL import BmpImagePlugin, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

    # the plug-ins themselves: Image.open refuses images above its own limit, which is a setting of the whole process
    kinds: dict[bytes, Any] = {
        b"\x89PNG": PngImagePlugin.PngImageFile,
        b"\xff\xd8": JpegImagePlugin.JpegImageFile,
        b"BM": BmpImagePlugin.BmpImageFile,
        b"II": TiffImagePlugin.TiffImageFile,
        b"MM": TiffImagePlugin.TiffImageFile,
    }
    with path.open("rb") as file:
        head = _peek(file, 4)
        for magic, kind in kinds.items():
            if head.startswith(magic):
                try:
                    width, height = kind(file).size
                except Exception as error:
                    raise ImageReadError(f"{path}: its header cannot be read: {error}") from None
                return int(width), int(height)
    raise ImageReadError(f"{path}: the file is empty (0 bytes)" if not head else f"{path}: not a known kind of image")


def _peek(file: BinaryIO, count: int) -> bytes:
    head = file.read(count)
    file.seek(0)
    return head
