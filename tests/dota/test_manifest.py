"""The manifest: written and read, located, reconciled, and refused where it cannot be trusted."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from prep_scenes import make_dataset

from fdam_rotate.dota.errors import ManifestError
from fdam_rotate.dota.manifest import Manifest, read_manifest
from fdam_rotate.dota.splitting.options import SplitOptions
from fdam_rotate.dota.splitting.split import run_split


@pytest.fixture
def split(tmp_path: Path) -> tuple[Path, Manifest]:
    data = make_dataset(tmp_path / "data", [(150, 90), (64, 64)], 3)
    options = SplitOptions(sizes=[64], gaps=[16])
    manifest = run_split([data / "images"], [data / "labelTxt"], tmp_path / "out", options)
    return tmp_path / "out", manifest


def test_it_reads_back(split: tuple[Path, Manifest]) -> None:
    out, manifest = split
    for given in (out, out / "manifest.json"):
        read = read_manifest(given)
        assert read.totals() == manifest.totals()
        assert read.images == manifest.images
        assert read.parameters == manifest.parameters
        assert read.patch_ids() == manifest.patch_ids()


def test_it_agrees_with_the_files(split: tuple[Path, Manifest]) -> None:
    out, manifest = split
    patches = {patch["id"]: patch for image in manifest.images for patch in image["patches"]}
    assert sorted(p.stem for p in (out / "images").iterdir()) == sorted(patches)
    for name, patch in patches.items():
        path = out / f"images/{name}.png"
        assert path.stat().st_size == patch["bytes"]
        assert cv2.imread(str(path)).shape == (patch["height"], patch["width"], 3)
        rows = [line.split() for line in (out / f"annfiles/{name}.txt").read_text().splitlines()]
        assert len(rows) == len(patch["lines"]) == len(patch["difficult"]) == len(patch["cut"])
        written = [2 if cut else level for cut, level in zip(patch["cut"], patch["difficult"], strict=True)]
        assert [int(row[9]) for row in rows] == written
    for image in manifest.images:
        labels = Path(image["label"]).read_text().splitlines()
        for patch in image["patches"]:
            texts = (out / f"annfiles/{patch['id']}.txt").read_text().splitlines()
            for text, line in zip(texts, patch["lines"], strict=True):
                original = np.array(labels[line - 1].split()[:8], float)
                shifted = np.array(text.split()[:8], float) + np.tile([patch["x"], patch["y"]], 4)
                assert np.allclose(shifted, original, atol=1e-3)


def test_locate(split: tuple[Path, Manifest]) -> None:
    _, manifest = split
    location = manifest.locate("P0000__64__48___26")
    assert location == ("P0000", 48, 26, 1.0)
    assert "P0000__64__48___26" in manifest
    assert "P0000__64__47___26" not in manifest
    with pytest.raises(ManifestError, match="'P0000__64__47___26' is not in the manifest"):
        manifest.locate("P0000__64__47___26")


def test_windows_are_in_pixels_of_the_whole_image(split: tuple[Path, Manifest]) -> None:
    windows = split[1].windows()
    assert windows["P0001"].tolist() == [[0, 0, 64, 64]]
    assert [86, 26, 150, 90] in windows["P0000"].tolist()
    half = {"id": "x", "patches": [{"id": "p", "x": 10, "y": 20, "scale": 0.5, "width": 64, "height": 32}]}
    assert Manifest({}, {}, [half, {"id": "y", "patches": []}]).windows()["x"].tolist() == [[20, 40, 148, 104]]
    assert Manifest({}, {}, [{"id": "y", "patches": []}]).windows()["y"].shape == (0, 4)


def test_totals_by_hand() -> None:
    def image(name: str, kept: int, cut: int, dropped: dict[str, int], lines: list[int]) -> dict[str, Any]:
        patch = {"id": f"{name}__8__0___0", "x": 0, "y": 0, "scale": 1.0, "bytes": 10, "lines": lines}
        objects = {"in": kept + sum(dropped.values()), "kept": kept, "cut": cut, "dropped": dropped}
        return {"id": name, "objects": objects, "problems": [{"kind": "class", "file": "l"}], "patches": [patch]}

    problems = [{"kind": kind, "file": file} for kind, file in (("image", "x"), ("no-label", "y"), ("clash", "z"))]
    images = [image("a", 2, 1, {"cut": 1}, [1, 2]), image("b", 1, 0, {"zero-area": 2, "cut": 3}, [4])]
    assert Manifest({}, {}, images, problems).totals() == {
        "images": 2,
        "skipped": 2,
        "empty": 0,
        "patches": 2,
        "bytes": 20,
        "objects_in": 9,
        "objects_kept": 3,
        "objects_cut": 1,
        "objects_dropped": {"cut": 4, "zero-area": 2},
        "annotations": 3,
        "problems": {"clash": 1, "class": 2, "image": 1, "no-label": 1},
    }


def lose_an_object(content: dict[str, Any]) -> None:
    content["images"][0]["objects"]["kept"] -= 1


def wrong_total(content: dict[str, Any]) -> None:
    content["totals"]["patches"] += 1


def repeat_a_patch(content: dict[str, Any]) -> None:
    content["images"][1]["patches"].append(content["images"][1]["patches"][0])
    content["totals"]["patches"] += 1
    content["totals"]["bytes"] += content["images"][1]["patches"][0]["bytes"]
    content["totals"]["annotations"] += len(content["images"][1]["patches"][0]["lines"])


def leave_the_folder(content: dict[str, Any]) -> None:
    content["images"][1]["patches"][0]["id"] = "../../etc/passwd"


def lose_a_field(content: dict[str, Any]) -> None:
    del content["images"][1]["patches"][0]["x"]


def lose(*keys: object) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        for key in keys[:-1]:
            content = content[key]  # type: ignore[index]
        del content[keys[-1]]  # type: ignore[arg-type]

    change.__name__ = f"lose_{keys[-1]}"
    return change


def no_number(content: dict[str, Any]) -> None:
    content["images"][0]["patches"][0]["x"] = math.inf


def no_table(content: dict[str, Any]) -> None:
    content["totals"] = [1]


def later_version(content: dict[str, Any]) -> None:
    content["version"] = 2


def other_file(content: dict[str, Any]) -> None:
    content["format"] = "coco"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lose_an_object, "in is not kept"),
        (wrong_total, "totals do not agree"),
        (repeat_a_patch, "occurs more than once"),
        (leave_the_folder, "holds a slash"),
        (lose_a_field, "a record is incomplete"),
        *((lose("images", 0, "patches", 0, key), "a record is incomplete") for key in ("width", "height", "lines")),
        (no_number, "a record is incomplete"),
        (no_table, "a record is incomplete"),
        (later_version, "version 2, expected 1"),
        (other_file, "not a split manifest"),
    ],
)
def test_what_cannot_be_trusted(
    change: Callable[[dict[str, Any]], None], match: str, split: tuple[Path, Manifest]
) -> None:
    path = split[0] / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ManifestError, match=match) as error:
        read_manifest(path)
    assert "manifest.json" in str(error.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"manifest\.json does not exist"):
        read_manifest(tmp_path)
    for content in (b"", b"{", b"[]", b"\xff\xfe\x00"):
        (tmp_path / "manifest.json").write_bytes(content)
        with pytest.raises(ManifestError, match=r"manifest\.json: not"):
            read_manifest(tmp_path)
