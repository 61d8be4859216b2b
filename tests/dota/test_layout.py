"""Lists of image ids."""

from __future__ import annotations

from pathlib import Path

import pytest

from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.layout import read_image_list
from fdam_rotate.dota.manifest import Manifest


def test_ids_are_sorted_and_extensions_dropped(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes("\ufeffP2.png\r\n\r\n P1 \nP2\nx.y.TIF\nv1.0\nbild ä.jpg".encode())
    assert read_image_list(path) == ("P1", "P2", "bild ä", "v1.0", "x.y")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "names no image"),
        (b"\n \n", "names no image"),
        (b"P1\n../P2\n", r"list\.txt:2: .*holds a slash"),
        (b"P1\n.png\n", r"list\.txt:2: "),
        (b"P\xe4\n", "not UTF-8"),
    ],
)
def test_bad_lists_say_why(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    with pytest.raises(DotaError, match=message):
        read_image_list(path)


def test_a_manifest_lists_the_images_that_were_split(tmp_path: Path) -> None:
    objects = {"in": 0, "kept": 0, "cut": 0, "dropped": {}}
    images = [{"id": name, "objects": objects, "problems": [], "patches": []} for name in ("P2", "A__B")]
    Manifest({}, {}, images).write(tmp_path / "manifest.json")
    assert read_image_list(tmp_path) == read_image_list(tmp_path / "manifest.json") == ("A__B", "P2")
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(DotaError, match="not a split manifest"):
        read_image_list(tmp_path / "manifest.json")


def test_missing_list(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_image_list(tmp_path / "list.txt")
