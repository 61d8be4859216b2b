"""Lists of image ids: text with one id a line, as DOTA_devkit's ``valset.txt``, or the manifest of a split."""

from __future__ import annotations

from pathlib import Path

from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.files import check_id
from fdam_rotate.dota.prep.sources import IMAGE_SUFFIXES

__all__ = ["read_image_list"]


def read_image_list(path: str | Path) -> tuple[str, ...]:
    """The image ids of a list, sorted, each once; blank lines are skipped, and an image's file extension is dropped.

    Args:
        path: text with one id a line; or the ``manifest.json`` of a split or its folder: the images that were split.

    Raises:
        DotaError: the list is empty or not UTF-8, or an id cannot be a file name, or the manifest is bad.
        FileNotFoundError: there is no such file.
    """
    path = Path(path)
    if path.is_dir() or path.suffix == ".json":
        from fdam_rotate.dota.prep.manifest import read_manifest

        return tuple(sorted(image["id"] for image in read_manifest(path).images))
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DotaError(f"{path}: not UTF-8 text ({error.reason}); give one image id a line") from error
    ids = set()
    for number, line in enumerate(lines, start=1):
        name = line.strip()
        if name:
            try:
                ids.add(check_id(name[: name.rindex(".")] if name.lower().endswith(IMAGE_SUFFIXES) else name))
            except DotaError as error:
                raise DotaError(f"{path}:{number}: {error}") from error
    if not ids:
        raise DotaError(f"{path} names no image; give one image id a line")
    return tuple(sorted(ids))
