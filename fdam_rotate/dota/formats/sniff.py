"""Which format a file or folder of labels has, found by its files and their beginnings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.formats.xmltext import read_xml
from fdam_rotate.dota.jsontext import read_json
from fdam_rotate.dota.layout import label_files, label_folder

__all__ = ["sniff_format"]


def sniff_format(path: str | Path) -> str | None:
    """The name of the format in `fdam_rotate.dota.formats.table.FORMATS`; None where nothing shows it.

    Raises:
        FileNotFoundError: there is no such file or folder.
    """
    path = Path(path)
    if path.is_file():
        return _of_file(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path} does not exist; give a folder of labels, a data set or a label file")
    for folder in _folders(path):
        if (folder / "data.yaml").is_file():
            return "yolo-obb"
        if label_folder(folder) is not None:
            return "dota"
        if (folder / "labels").is_dir() and _has(folder / "labels", ".txt"):
            return "yolo-obb"
        for suffix in (".xml", ".json"):
            for file in label_files(folder, suffix):
                found = _of_file(file)
                if found is not None:
                    return found
    return "dota" if _has(path, ".txt") else None


def _folders(path: Path) -> Iterator[Path]:
    """The folder, those in it, and those in these: images/ and annotations/ of train/ and val/."""
    yield path
    inner = sorted(one for one in path.iterdir() if one.is_dir() and not one.name.startswith("."))
    yield from inner
    for folder in inner:
        yield from sorted(one for one in folder.iterdir() if one.is_dir() and not one.name.startswith("."))


def _has(folder: Path, suffix: str) -> bool:
    """A label file in the folder, or in one within it?"""
    inner = [one for one in folder.iterdir() if one.is_dir()]
    return any(label_files(one, suffix) for one in (folder, *inner))


def _of_file(path: Path) -> str | None:
    try:
        if path.suffix.lower() == ".xml":
            return {"annotations": "cvat", "annotation": "rolabelimg"}.get(read_xml(path).tag)
        return _of_json(read_json(path))
    except (DotaError, OSError):
        return None


def _of_json(content: Any) -> str | None:
    if isinstance(content, dict) and isinstance(content.get("shapes"), list):
        turned = any(isinstance(one, dict) and one.get("shape_type") == "rotation" for one in content["shapes"])
        return "x-anylabeling" if turned else "labelme"
    if isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys():
        return "coco"
    first = content[0] if isinstance(content, list) and content else content
    if isinstance(first, dict) and "data" in first:
        return "label-studio"
    return None
