"""``data_prep/split.py`` as users call it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from prep_scenes import assert_same_split, make_dataset, run_mmrotate, tree
from scripts import ROOT, load_script

from fdam_rotate.dota.manifest import read_manifest
from fdam_rotate.dota.splitting.options import SplitOptions
from fdam_rotate.dota.splitting.presets import PRESETS

SCRIPT = ROOT / "data_prep/split.py"


def load() -> ModuleType:
    return load_script("data_prep/split.py")


main = load().main


def folders(data: Path, out: Path) -> list[str]:
    return ["--img-dirs", f"{data}/images", "--ann-dirs", f"{data}/labelTxt", "--out", str(out), "--nproc", "1"]


def test_every_flag_of_mmrotate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_dataset(tmp_path / "data", [(150, 90), (40, 64)], 0)
    flags = ["--sizes", "64", "--gaps", "16", "--rates", "0.5", "1.0", "--img-rate-thr", "0.8", "--iof-thr", "0.4"]
    flags += ["--padding-value", "1", "2", "3", "--save-ext", ".png", "--accept", "outside"]
    assert main([*folders(data, tmp_path / "ours"), *flags]) == 0
    options = SplitOptions(
        sizes=[64], gaps=[16], rates=[0.5, 1.0], img_rate_thr=0.8, iof_thr=0.4, padding_value=[1, 2, 3]
    )
    run_mmrotate(data, tmp_path / "theirs", options)
    assert_same_split(tmp_path / "ours", tmp_path / "theirs")
    summary = capsys.readouterr().out.strip()
    totals = read_manifest(tmp_path / "ours").totals()
    assert len(summary.splitlines()) == 1
    assert summary.startswith(f"2 images -> {totals['patches']} patches in {tmp_path / 'ours'}; 0 images skipped;")
    assert f"{totals['objects_in']} in, {totals['objects_kept']} kept" in summary
    assert summary.endswith(" s")


def test_no_padding_and_other_extension(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", [(70, 40)], 0, objects=0)
    assert (
        main([*folders(data, tmp_path / "out"), "--sizes", "64", "--gaps", "0", "--no-padding", "--save-ext", "bmp"])
        == 0
    )
    patches = read_manifest(tmp_path / "out").images[0]["patches"]
    assert [(p["width"], p["height"]) for p in patches] == [(64, 40), (64, 40)]
    assert sorted(p.suffix for p in (tmp_path / "out/images").iterdir()) == [".bmp", ".bmp"]


def test_a_base_json_gives_defaults_that_flags_override(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", [(70, 40)], 0, objects=0)
    config = {
        "nproc": 1, "img_dirs": [f"{data}/images"], "ann_dirs": None, "sizes": [48], "gaps": [8], "rates": [1.0],
        "img_rate_thr": 0.6, "iof_thr": 0.7, "no_padding": False, "padding_value": [104, 116, 124],
        "save_dir": str(tmp_path / "out"), "save_ext": ".png",
    }  # fmt: skip
    (tmp_path / "ss.json").write_text(json.dumps(config))
    assert main(["--base-json", str(tmp_path / "ss.json"), "--gaps", "16"]) == 0
    parameters = read_manifest(tmp_path / "out").parameters
    assert (parameters["sizes"], parameters["gaps"], parameters["padding_value"]) == ([48], [16], [104, 116, 124])


def test_presets() -> None:
    assert len(PRESETS) == 3 * 2 * 4
    assert PRESETS["dota-v1.0-ss-train"]["gaps"] == [200]
    assert PRESETS["dota-v2.0-ms-trainval"]["rates"] == [0.5, 1.0, 1.5]
    assert PRESETS["dota-v2.0-ms-trainval"]["gaps"] == [500]
    assert PRESETS["dota-v1.5-ss-trainval"]["img_dirs"] == [f"data/DOTA-v1.5/{s}/images" for s in ("train", "val")]
    assert PRESETS["dota-v1.0-ss-test"]["ann_dirs"] is None
    assert len({preset["out"] for preset in PRESETS.values()}) == len(PRESETS)


def test_a_preset_gives_folders_and_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_dataset(tmp_path / "data/DOTA/val", [(70, 40)], 0, objects=0)
    (data / "labelTxt/P0000.txt").write_text("1 1 9 1 9 9 1 9 ship 0\n1 1 1 1 9 9 9 9 ship 0\n")
    monkeypatch.chdir(tmp_path)
    assert main(["--preset", "dota-v1.0-ms-val", "--nproc", "1"]) == 0  # the flat polygon is accepted
    manifest = read_manifest("data/split_ms_dota/val")
    # all three hold less than a hundredth of image, so none holds the most
    assert manifest.patch_ids() == ["P0000__2048__0___0", "P0000__1024__0___0", "P0000__682__0___0"]
    assert len(manifest.parameters["classes"]) == 15
    assert manifest.totals()["problems"] == {"zero-area": 1}
    (data / "labelTxt/P0000.txt").write_text("1 1 9 1 9 9 1 9 helipad 0\n")
    assert main(["--preset", "dota-v1.0-ms-val", "--nproc", "1"]) == 1  # a class of v2.0


def test_a_dry_run_tells_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_dataset(tmp_path / "data", [(300, 200), (150, 150)], 0, objects=0)
    flags = [*folders(data, tmp_path / "out"), "--sizes", "64", "--gaps", "16"]
    for style in ("mmrotate", "devkit"):
        before = tree(tmp_path)
        assert main([*flags, "--style", style, "--dry-run"]) == 0
        assert tree(tmp_path) == before
        told = capsys.readouterr().out
        assert main([*flags[:5], str(tmp_path / style), *flags[6:], "--style", style]) == 0
        totals = read_manifest(tmp_path / style).totals()
        assert f"would write {totals['patches']} patches of 2 images" in told
        about = float(told.split("about ")[1].split(" MB")[0])
        assert about == pytest.approx(totals["bytes"] / 1e6, rel=0.25, abs=0.06)
        capsys.readouterr()
    (data / "images/bad.png").write_bytes(b"")
    (data / "images/link.png").symlink_to("nowhere.png")
    assert main([*flags, "--dry-run"]) == 1
    captured = capsys.readouterr()
    assert "of 2 images" in captured.out
    assert "link.png: cannot be read: No such file or directory [image]" in captured.err


def test_bad_input_is_exit_code_1_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_dataset(tmp_path / "data", [(70, 40), (70, 40)], 0, objects=0)
    (data / "images/P0001.png").write_bytes(b"")
    assert main(folders(data, tmp_path / "out")) == 1
    captured = capsys.readouterr()
    assert "P0001.png: the file is empty (0 bytes) [image]" in captured.err
    assert "1 image skipped" in captured.out
    assert main([*folders(data, tmp_path / "out"), "--accept", "image"]) == 0


def test_many_problems_are_cut_short_on_the_screen_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_dataset(tmp_path / "data", [(70, 40)], 0, objects=0)
    (data / "labelTxt/P0000.txt").write_text("nonsense\n" * 100)
    assert main(folders(data, tmp_path / "out")) == 1
    assert "... and 80 more, all in" in capsys.readouterr().err
    assert len(read_manifest(tmp_path / "out").all_problems()) == 100


@pytest.mark.parametrize(
    ("flags", "match"),
    [
        ([], "--img-dirs is needed"),
        (["--img-dirs", "a", "b", "--ann-dirs", "c"], "expected 2"),
        (["--img-dirs", "a", "--nproc", "0"], "--nproc: expected a whole number of at least 1, got '0'"),
        (["--img-dirs", "a", "--gaps", "1024"], "0 <= overlap < size"),
        (["--img-dirs", "a", "--iof-thr", "1"], "iof_thr must be"),
        (["--img-dirs", "a", "--accept", "nothing"], "the kinds are"),
        (["--img-dirs", "a", "--preset", "dota"], "invalid choice"),
    ],
)
def test_bad_usage_is_exit_code_2(flags: list[str], match: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main(flags)
    assert error.value.code == 2
    assert match in capsys.readouterr().err


def test_an_unknown_key_in_a_base_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.json").write_text('{"img_dirs": ["a"], "gap": [200]}')
    with pytest.raises(SystemExit):
        main(["--base-json", str(tmp_path / "a.json")])
    assert "unknown gap" in capsys.readouterr().err


def test_help_and_errors_from_another_folder(tmp_path: Path) -> None:
    shown = subprocess.run([sys.executable, str(SCRIPT), "--help"], capture_output=True, text=True, cwd=tmp_path)
    assert shown.returncode == 0
    assert "MMRotate" in shown.stdout
    failed = subprocess.run(
        [sys.executable, str(SCRIPT), "--img-dirs", "nowhere"], capture_output=True, text=True, cwd=tmp_path
    )
    assert failed.returncode == 1
    assert failed.stderr == "error: folder nowhere does not exist\n"


def test_help_loads_nothing_heavy() -> None:
    code = f"""
import runpy, sys
sys.argv = ["split.py", "--help"]
try:
    runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
except SystemExit:
    pass
loaded = {{"numpy", "cv2", "shapely", "torch", "mmcv"}} & set(sys.modules)
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
