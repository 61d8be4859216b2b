"""Files that are written beside their target and renamed; ids that name files."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.files import atomic_path, check_file_name, sha256_of, write_text


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
