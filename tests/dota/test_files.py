"""Files that are written beside their target and renamed; ids that name files."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from fdam_rotate.commands import convert_labels, merge
from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.files import atomic_path, check_file_name, move_file, sha256_of, write_text


@pytest.fixture
def mask() -> Iterator[int]:
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


def test_a_written_file_has_the_rights_that_the_umask_leaves(tmp_path: Path, mask: int) -> None:
    write_text(tmp_path / "a.txt", "a")
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640
    assert os.umask(mask) == mask, "the umask of the process stays as it was"
    os.umask(0o077)
    write_text(tmp_path / "a.txt", "b")
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o600


def test_text_is_utf_8_with_its_line_ends_and_folders_are_made(tmp_path: Path) -> None:
    write_text(tmp_path / "new/folder/a.txt", "\u00e9\r\nb\n")
    assert (tmp_path / "new/folder/a.txt").read_bytes() == b"\xc3\xa9\r\nb\n"
    assert sha256_of(tmp_path / "new/folder/a.txt") == hashlib.sha256(b"\xc3\xa9\r\nb\n").hexdigest()


@pytest.fixture
def other_disc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Renaming works within a folder only, as between two discs."""
    replace = os.replace

    def within(source: str | Path, target: str | Path) -> None:
        if Path(source).parent != Path(target).parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        replace(source, target)

    monkeypatch.setattr(os, "replace", within)


def test_a_file_is_moved_to_another_disc(tmp_path: Path, other_disc: None, mask: int) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a/one.txt").write_text("new")
    (tmp_path / "b/one.txt").write_text("old")
    (tmp_path / "a/link").symlink_to("/nowhere")
    for name in ("one.txt", "link"):
        move_file(tmp_path / "a" / name, tmp_path / "b" / name)
    assert list((tmp_path / "a").iterdir()) == []
    assert (tmp_path / "b/one.txt").read_text() == "new"
    assert stat.S_IMODE((tmp_path / "b/one.txt").stat().st_mode) == 0o666 & ~mask
    assert (tmp_path / "b/link").readlink() == Path("/nowhere")
    with pytest.raises(FileNotFoundError):
        move_file(tmp_path / "a/none", tmp_path / "a/some")


def test_merge_and_convert_labels_write_to_another_disc(tmp_path: Path, other_disc: None) -> None:
    """As with a volume of Docker as the output folder: what they make beside it cannot be renamed into it."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/Task1_ship.txt").write_text("a 0.9 1 2 9 2 9 8 1 8\n")
    for _ in range(2):  # the second run replaces the files of the first
        argv = [str(tmp_path / "in"), "--out", str(tmp_path / "merged"), "--classes", "ship", "--overwrite"]
        assert merge.main(argv) == 0
        assert (tmp_path / "merged/Task1_ship.txt").read_text().startswith("a 0.900000 1.00 2.00 ")
        assert (tmp_path / "merged.zip").is_file()
    (tmp_path / "set/images").mkdir(parents=True)
    (tmp_path / "set/labelTxt").mkdir()
    assert cv2.imwrite(str(tmp_path / "set/images/a.png"), np.zeros((9, 9, 3), np.uint8))
    (tmp_path / "set/labelTxt/a.txt").write_text("1 2 9 2 9 8 1 8 ship 0\n")
    assert convert_labels.main([str(tmp_path / "set"), "--out", str(tmp_path / "yolo"), "--to", "yolo-obb"]) == 0
    assert (tmp_path / "yolo/images/data/a.png").resolve() == tmp_path / "set/images/a.png"
    assert (tmp_path / "yolo/labels/data/a.txt").is_file()


def test_a_block_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")

    def fail() -> None:
        with atomic_path(tmp_path / "a.txt") as temporary:
            assert temporary.parent == tmp_path
            assert temporary.suffix == ".txt"
            assert temporary.name.startswith(".")
            temporary.write_text("half")
            assert (tmp_path / "a.txt").read_text() == "old"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "old")]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a\0", "a\nb", "a\rb", "/a"])
def test_ids_that_cannot_name_a_file(name: str) -> None:
    with pytest.raises(DotaError):
        check_file_name(name)


@pytest.mark.parametrize("name", ["a", "a.b", "..a", "a__1__0___0", "\u00e9"])
def test_ids_that_can(name: str) -> None:
    assert check_file_name(name) == name
