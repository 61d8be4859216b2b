"""Which images and label files there are, and what is amiss with the folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from fdam_rotate.dota.errors import DotaError, ImageReadError
from fdam_rotate.dota.labels import read_label_dir
from fdam_rotate.dota.layout import find_parts, image_problem, label_files, list_sources
from fdam_rotate.dota.problems import Problem


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def listed(img: Path, ann: Path | None) -> tuple[dict[str, str | None], list[tuple[str, str]]]:
    problems: list[Problem] = []
    found = list_sources([img], [ann], problems)
    return (
        {one.image_id: None if one.label is None else one.label.name for one in found},
        [(problem.kind, Path(problem.path).name) for problem in problems],
    )


def test_images_with_their_labels_sorted(tmp_path: Path) -> None:
    img = touch(tmp_path / "images", "b.PNG", "a.c.jpg", "z.tif", "notes.md", ".hidden.png")
    (img / "folder.png").mkdir()
    ann = touch(tmp_path / "labelTxt", "b.txt", "a.c.txt", "z.txt")
    assert listed(img, ann) == ({"a.c": "a.c.txt", "b": "b.txt", "z": "z.txt"}, [])
    assert listed(img, None) == ({"a.c": None, "b": None, "z": None}, [])


def test_every_partner_that_is_missing_is_a_problem(tmp_path: Path) -> None:
    img = touch(tmp_path / "images", "a.png", "b.png")
    ann = touch(tmp_path / "labelTxt", "a.txt", "other.txt")
    found, problems = listed(img, ann)
    assert found == {"a": "a.txt", "b": None}
    assert problems == [("no-label", "b.png"), ("no-image", "other.txt")]


def test_class_lists_and_hidden_files_are_no_labels(tmp_path: Path) -> None:
    junk = ("classes.txt", "Predefined_Classes.txt", "._a.txt", ".DS_Store", "Thumbs.db", "a.txt~", "notes.json")
    img = touch(tmp_path / "images", "a.png", "._a.png", "Thumbs.db")
    ann = touch(tmp_path / "labelTxt", "a.txt", "b.TXT", *junk)
    assert [path.name for path in label_files(ann)] == ["a.txt", "b.TXT"]
    assert [path.name for path in label_files(ann, ".json")] == ["notes.json"]
    found, problems = listed(img, ann)
    assert found == {"a": "a.txt"}
    assert problems == [("no-image", "b.TXT")]
    assert list(read_label_dir(ann)) == ["a", "b"]


def test_of_two_images_with_one_id_the_first_stays(tmp_path: Path) -> None:
    img = touch(tmp_path / "images", "a.jpg", "a.png")
    problems: list[Problem] = []
    (found,) = list_sources([img], [None], problems)
    assert found.path.name == "a.jpg"
    (problem,) = problems
    assert (problem.kind, problem.path) == ("clash", str(img / "a.png"))
    assert problem.text == f"has the id of {img / 'a.jpg'}; it is left out"
    # the same over several folders
    more = touch(tmp_path / "more", "a.png", "b.png")
    problems.clear()
    assert [one.image_id for one in list_sources([img, more], [None, None], problems)] == ["a", "b"]
    assert [problem.kind for problem in problems] == ["clash", "clash"]


def test_a_name_that_is_not_utf_8_is_left_out(tmp_path: Path) -> None:
    img = touch(tmp_path / "images", "a.png")
    try:
        (img / "b\udce9.png").touch()
    except (OSError, UnicodeEncodeError):
        pytest.skip("this file system takes no such name")
    found, problems = listed(img, None)
    assert list(found) == ["a"]
    assert [kind for kind, _ in problems] == ["id"]


def test_folders_without_images_and_missing_ones_are_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        list_sources([tmp_path / "nowhere"], [None], [])
    with pytest.raises(FileNotFoundError, match="labels does not exist"):
        list_sources([touch(tmp_path / "images", "a.png")], [tmp_path / "labels"], [])
    with pytest.raises(DotaError, match="no image in"):
        list_sources([touch(tmp_path / "empty", "a.txt")], [None], [])


def test_parts_of_a_data_set(tmp_path: Path) -> None:
    root = tmp_path / "DOTA"
    touch(root / "val", "images/a.png", "annfiles/a.txt")
    touch(root / "train", "images/a.png", "labelTxt/a.txt", "annfiles/a.txt")
    touch(root / "test", "images/a.png")
    touch(root / "other", "a.txt")
    parts = find_parts([root])
    assert [(one.name, one.folder.name, one.annotations and one.annotations.name) for one in parts] == [
        ("test", "test", None),
        ("train", "train", "labelTxt"),
        ("val", "val", "annfiles"),
    ]
    (lone,) = find_parts([root / "train"])
    assert (lone.name, lone.folder) == ("train", root / "train")
    both = find_parts([root / "val", root / "train"])
    assert [one.name for one in both] == [str(root / "val"), str(root / "train")]
    with pytest.raises(DotaError, match=r"other is no data set: expected images/ .*; it holds a\.txt"):
        find_parts([root / "other"])
    (tmp_path / "bare").mkdir()
    with pytest.raises(DotaError, match="it holds nothing"):
        find_parts([tmp_path / "bare"])
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        find_parts([tmp_path / "nowhere"])


def test_why_an_image_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    other = str(tmp_path / "b.aux")
    for error, text in (
        (ImageReadError(f"{path}: truncated"), "truncated"),
        (FileNotFoundError(2, "No such file or directory", str(path)), "cannot be read: No such file or directory"),
        (PermissionError(13, "Permission denied", other), f"{other} cannot be read: Permission denied"),
        (OSError("odd"), "cannot be read: odd"),
        (MemoryError("much"), "MemoryError: much"),
    ):
        assert image_problem(path, error) == Problem("image", str(path), 0, text)
    assert image_problem(path, OSError("odd"), "as named").path == "as named"
