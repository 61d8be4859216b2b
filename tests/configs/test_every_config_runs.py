"""Configs through the commands: one epoch of training, a validation where there is one, and test.py --format-only."""

from __future__ import annotations

import logging
import zipfile
from pathlib import Path

import pytest
import torch
from mmcv import Config
from scripts import ROOT, load_script
from small_training import CONFIGS, make_hrsc, make_parts, small_options, train_data

from fdam_rotate.dota.classes import DOTA_CLASSES, resolve_classes

NAMES = [str(path.relative_to(ROOT / "configs")) for path in CONFIGS]
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Patches as 'DOTA' and the ships of 'HRSC2016'."""
    root = tmp_path_factory.mktemp("data")
    make_parts(root / "dota", train=2, val=1, test=1)
    make_hrsc(root / "hrsc")
    return root


class _Kept(logging.Handler):
    """Every message of MMRotate's log, which writes to whatever stderr was when it was first asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += record.getMessage()


def _train_and_test(config: Path, data: Path, work: Path) -> None:
    cfg = Config.fromfile(str(config))
    part = train_data(cfg)
    hrsc = part.type == "HRSC2016Dataset"
    classes = ("ship",) if hrsc else resolve_classes(part.classes)
    own = data / ("hrsc" if hrsc else "dota")
    if not hrsc and not set(DOTA_CLASSES["v1.0"][:2]) <= set(classes):  # the classes that the patches of `data` show
        own = make_parts(work / "own", classes, train=2, val=1, test=1)
    options = ["--cfg-options", *small_options(config, own)]
    validates = cfg.data.get("val") is not None
    train, test = load_script("tools/train.py").main, load_script("tools/test.py").main
    kept = _Kept()
    logging.getLogger("mmrotate").addHandler(kept)
    try:
        assert train([str(config), "--work-dir", str(work), *options]) == 0
    finally:
        logging.getLogger("mmrotate").removeHandler(kept)
    assert ("scored on" in kept.text) == validates
    checkpoint = work / ("iter_2.pth" if cfg.runner.type == "IterBasedRunner" else "epoch_1.pth")
    assert torch.load(checkpoint, weights_only=False)["meta"]["CLASSES"] == classes

    submission = work / "submission"
    words = ["--format-only", "--eval-options", f"submission_dir={submission}"]
    assert test([str(config), str(checkpoint), "--work-dir", str(work / "test"), *words, *options]) == 0
    expected = {f"Task1_{name}.txt" for name in classes}
    assert {path.name for path in submission.iterdir()} == expected
    with zipfile.ZipFile(f"{submission}.zip") as archive:
        assert set(archive.namelist()) == expected


def _families() -> list[str]:
    """One config of each folder, and the first that trains on trainval."""
    chosen: dict[str, str] = {}
    for name in NAMES:
        chosen.setdefault(Path(name).parts[0], name)
        if "trainval" in name and "hrsc" not in name:
            chosen.setdefault("trainval", name)
    return sorted(set(chosen.values()))


@pytest.mark.parametrize("name", _families())
def test_one_config_of_each_family_runs(name, data, tmp_path):
    _train_and_test(ROOT / "configs" / name, data, tmp_path)


@pytest.mark.every_config
@pytest.mark.parametrize("name", [name for name in NAMES if name not in _families()])
def test_every_other_config_runs(name, data, tmp_path):
    _train_and_test(ROOT / "configs" / name, data, tmp_path)


def test_no_validate_does_not_ask_for_the_folders_of_val(data, tmp_path):
    config = ROOT / "configs/lsknet/lsk_s_fpn_1x_dota_le90.py"
    options = [*small_options(config, data / "dota"), f"data.val.ann_file={tmp_path}/none"]
    words = [str(config), "--work-dir", str(tmp_path / "work"), "--cfg-options", *options]
    train = load_script("tools/train.py").main
    with pytest.raises(FileNotFoundError, match=r"data\.val\.ann_file is .*none"):
        train(words)
    assert train([*words, "--no-validate"]) == 0
    assert (tmp_path / "work" / "epoch_1.pth").is_file()
    assert len(DOTA_CLASSES["v1.0"]) == 15
