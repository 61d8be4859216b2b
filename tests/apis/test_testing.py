"""tools/test.py's work on patches, with a detector whose answer is known: what each setting changes."""

from __future__ import annotations

import logging
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmcv import Config
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import fdam_rotate.datasets
from fdam_rotate.apis import testing
from fdam_rotate.apis.testing import Outputs, run_test
from fdam_rotate.dota.detections import read_detections
from fdam_rotate.dota.errors import DotaError, OutputExistsError, ScoreError

CLASSES = ("plane", "ship")
SHIP = (33, 20, 63, 30)  # in both patches of the image "im", which overlap by 32 pixels
CONFIG = """
model = dict(type='Finder', backbone=dict(type='None'))
runner = dict(type='EpochBasedRunner', max_epochs=1)
steps = [dict(type='RResize'), dict(type='Normalize', mean=[0.0] * 3, std=[255.0] * 3, to_rgb=True),
         dict(type='DefaultFormatBundle'), dict(type='Collect', keys=['img'])]
part = dict(
    type='DOTAPatchDataset', classes=['plane', 'ship'], img_prefix={root!r} + '/images',
    pipeline=[dict(type='LoadImageFromFile'), dict(type='FlipTurnAug', scale_factor=1.0, transforms=steps)])
data = dict(
    workers_per_gpu=0, train=dict(),
    val=dict(ann_file={root!r} + '/annfiles', gt_dir={root!r} + '/labelTxt', **part),
    test=dict(ann_file={root!r} + '/images', **part))
"""


class Finder(nn.Module):
    """A level box round each bright spot, once for each bright colour: red is a ship, blue a plane."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, img, img_metas, return_loss, rescale):
        return [self._find(pixels.numpy()) for pixels in img[0]]

    def _find(self, pixels):
        boxes = [[], []]
        for label, colour in enumerate(pixels[[2, 0]]):
            bright = (colour > 0.3).astype(np.uint8)
            for x, y, w, h, _ in cv2.connectedComponentsWithStats(bright)[2][1:]:
                boxes[label].append([x + w / 2, y + h / 2, w, h, 0, colour[y, x]])
        return [np.array(rows, np.float32).reshape(-1, 6) for rows in boxes]


def _line(x1: int, y1: int, x2: int, y2: int, name: str) -> str:
    return f"{x1} {y1} {x2} {y1} {x2} {y2} {x1} {y2} {name} 0\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two patches of one image and an empty one of another; a ship in both, a spot that is ship and plane in one."""
    image = np.zeros((64, 96, 3), np.uint8)
    x1, y1, x2, y2 = SHIP
    image[y1:y2, x1:x2] = 0, 0, 204
    image[40:50, 70:90] = 153, 0, 230
    root = tmp_path / "data"
    for part in ("images", "annfiles", "labelTxt"):
        (root / part).mkdir(parents=True)
    for name, pixels, text in (
        ("im__64__0___0", image[:, :64], _line(*SHIP, "ship")),
        ("im__64__32___0", image[:, 32:], _line(x1 - 32, y1, x2 - 32, y2, "ship") + _line(38, 40, 58, 50, "ship")),
        ("other__64__0___0", np.zeros((64, 64, 3), np.uint8), ""),
    ):
        assert cv2.imwrite(str(root / "images" / f"{name}.png"), pixels)
        (root / "annfiles" / f"{name}.txt").write_text(text)
    (root / "labelTxt" / "im.txt").write_text(_line(*SHIP, "ship") + _line(70, 40, 90, 50, "ship"))
    (root / "labelTxt" / "other.txt").write_text("")
    (tmp_path / "c.py").write_text(CONFIG.format(root=str(root)))
    (tmp_path / "c.pth").write_bytes(b"weights")
    return tmp_path


@pytest.fixture
def loaded(monkeypatch) -> list[dict]:
    """What each model was loaded with."""
    calls: list[dict] = []
    monkeypatch.setattr(
        testing, "load_detector", lambda cfg, checkpoint, classes, **named: calls.append(named) or Finder()
    )
    return calls


def _test(root: Path, changes: dict | None = None, *, out: str = "out", **settings) -> None:
    cfg = Config.fromfile(str(root / "c.py"))
    cfg.merge_from_dict(changes or {})
    outputs = settings.pop("outputs", None) or Outputs(root / out / "det")
    assert run_test(cfg, root / "c.pth", outputs, device="cpu", **settings) == 0


def _whole(root: Path, out: str = "out") -> Outputs:
    return Outputs(root / out / "det", root / out / "sub", root / out / "shown")


def _found(folder: Path) -> list[tuple[str, str, float, float, float]]:
    """Class, id, x and y of the centre and score of each detection."""
    rows = []
    for name, one in read_detections(folder, classes=CLASSES).items():
        for k, (x, y) in enumerate(one.polys.reshape(-1, 4, 2).mean(1).tolist()):
            rows.append((name, one.image_ids[one.image[k]], x, y, round(float(one.scores[k]), 2)))
    return sorted(rows)


IN_PATCHES = [
    ("plane", "im__64__32___0", 48.0, 45.0, 0.6),
    ("ship", "im__64__0___0", 48.0, 25.0, 0.8),
    ("ship", "im__64__32___0", 16.0, 25.0, 0.8),
    ("ship", "im__64__32___0", 48.0, 45.0, 0.9),
]
MERGED = [("plane", "im", 80.0, 45.0, 0.6), ("ship", "im", 48.0, 25.0, 0.8), ("ship", "im", 80.0, 45.0, 0.9)]


def test_detections_submission_and_score(root, loaded, capsys):
    _test(root, split="val", score={}, outputs=_whole(root))
    assert _found(root / "out/det") == IN_PATCHES
    assert (root / "out/det/patches.txt").read_text().split() == [
        "im__64__0___0", "im__64__32___0", "other__64__0___0",
    ]  # fmt: skip
    assert _found(root / "out/sub") == MERGED
    with zipfile.ZipFile(root / "out/sub.zip") as archive:
        for name in CLASSES:
            assert archive.read(f"Task1_{name}.txt") == (root / f"out/sub/Task1_{name}.txt").read_bytes()
    printed = capsys.readouterr().out
    assert "2 images scored, 1 of them without objects" in printed, "the notes too"
    assert "mAP of merged whole images" in printed


def test_boxes_of_all_classes_suppress_each_other_where_asked(root, loaded, monkeypatch):
    merges = []
    score = fdam_rotate.datasets.DOTAPatchDataset.score

    def watched(self, found, *, merge, **settings):
        merges.append(merge.nms_agnostic)
        return score(self, found, merge=merge, **settings)

    monkeypatch.setattr(fdam_rotate.datasets.DOTAPatchDataset, "score", watched)
    for asked in (False, True):
        out = f"out{asked}"
        _test(root, split="val", score={}, nms_agnostic=asked, outputs=_whole(root, out))
        assert _found(root / out / "det") == IN_PATCHES, "patches are left as they are"
        assert _found(root / out / "sub") == (MERGED[1:] if asked else MERGED)
        with zipfile.ZipFile(root / out / "sub.zip") as archive:
            assert (archive.read("Task1_plane.txt") == b"") is asked
    assert merges == [False, True], "the score is of what was merged in this way"


@pytest.mark.parametrize(("least", "drawn"), [(0.8, 3), (0.81, 1), (0.3, 4)])
def test_pictures_show_what_scores_enough(least, drawn, root, loaded, monkeypatch):
    seen = []
    monkeypatch.setattr(
        testing,
        "draw_detections",
        lambda image, own, classes: seen.extend(own.values()) or np.zeros((4, 4, 3), np.uint8),
    )
    written = Finder._find
    # a score that float32 and text have alike
    monkeypatch.setattr(
        Finder, "_find", lambda self, pixels: [np.round(rows.astype(np.float64), 2) for rows in written(self, pixels)]
    )
    _test(root, score_thr=least, outputs=_whole(root))
    assert sum(map(len, seen)) == drawn
    assert sorted(path.name for path in (root / "out/shown").glob("*.png")) == [
        "im__64__0___0.png", "im__64__32___0.png", "other__64__0___0.png",
    ]  # fmt: skip


def test_pictures_are_read_as_the_data_set_reads_them(root, loaded, monkeypatch):
    rasters = []
    read = testing.read_image
    monkeypatch.setattr(testing, "read_image", lambda path, raster: rasters.append(raster.bands) or read(path, raster))
    _test(root, {"data.test.bands": [3, 2, 1]}, outputs=_whole(root))
    assert {tuple(bands) for bands in rasters} == {(3, 2, 1)}


def test_settings_reach_the_model(root, loaded, monkeypatch):
    seen = []
    predict = testing.predict
    monkeypatch.setattr(
        testing, "predict", lambda model, loader: seen.append((model, loader)) or predict(model, loader)
    )
    _test(root, out="plain")
    _test(root, {"opencv_num_threads": 3}, out="other", fuse_conv_bn=True, unsafe_load=True, precision="bf16")
    try:
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(0)
    assert loaded == [{"unsafe_load": False}, {"unsafe_load": True}]
    norms = [[type(part) for part in model.modules() if isinstance(part, _BatchNorm)] for model, _ in seen]
    assert norms == [[nn.BatchNorm2d], []], "folded into the convolution"
    wrapped = [hasattr(model.convolution.forward, "__wrapped__") for model, _ in seen]
    assert wrapped == [False, True], "under autocast"


@pytest.mark.parametrize("key", ["data.test.samples_per_gpu", "data.test_dataloader"])
def test_several_patches_at_a_time(key, root, loaded, monkeypatch):
    """As the host's configs ask for them, in either place."""
    sizes = []
    predict = testing.predict
    monkeypatch.setattr(
        testing, "predict", lambda model, loader: sizes.append(loader.batch_size) or predict(model, loader)
    )
    # of different sizes, so that they must be padded to be put together
    image = root / "data/images/other__64__0___0.png"
    assert cv2.imwrite(str(image), np.zeros((40, 50, 3), np.uint8))
    steps = "data.test.pipeline.1.transforms.2"
    _test(root, {
            steps: {"_delete_": True, "type": "ImageToTensor", "keys": ["img"]},
            key: 2 if key.endswith("gpu") else {"samples_per_gpu": 2},
        })  # fmt: skip
    assert sizes == [2]
    assert _found(root / "out/det") == IN_PATCHES


def test_a_config_of_model_and_data_alone_is_enough(root, loaded):
    text = (root / "c.py").read_text()
    (root / "c.py").write_text(text.replace("runner = dict(type='EpochBasedRunner', max_epochs=1)\n", ""))
    _test(root)
    assert _found(root / "out/det") == IN_PATCHES


def test_settings_that_contradict_each_other_are_a_line(root, loaded):
    with pytest.raises(DotaError, match=r"data cannot be built: `samples_per_gpu` are set in `data` field"):
        _test(root, {"data.samples_per_gpu": 2, "data.train_dataloader": {"samples_per_gpu": 2}})


@pytest.mark.parametrize(
    ("changes", "settings", "error", "message"),
    [
        ({"data.val": None}, {"split": "val"}, DotaError, r"the config has no data\.val"),
        ({}, {"split": "test", "score": {}}, ScoreError, "nothing to score against"),
        ({"model.bbox_head": {"num_classes": 3}}, {}, DotaError, "num_classes is 3, but the data set has 2 classes"),
        ({"data.test.type": "DOTADataset"}, {}, DotaError, r"data\.test is a DOTADataset; tools/test.py tests a"),
    ],
)
def test_what_cannot_be_tested_is_said_before_the_model_is_loaded(changes, settings, error, message, root, loaded):
    if changes.get("data.test.type") == "DOTADataset":
        changes = {**changes, "data.test.pipeline": [], "data.test.classes": None, "data.test.version": "le90"}
    with pytest.raises(error, match=message):
        _test(root, changes, **settings)
    assert not loaded
    assert not (root / "out").exists()


def test_only_files_of_an_earlier_test_are_replaced(root, loaded):
    (root / "out").mkdir()
    (root / "out/sub.zip").write_bytes(b"of somebody")
    with pytest.raises(OutputExistsError, match=r"sub\.zip exists"):
        _test(root, outputs=_whole(root))
    assert not loaded, "known before the model is loaded"
    assert [path.name for path in (root / "out").iterdir()] == ["sub.zip"]
    (root / "out/sub.zip").unlink()
    _test(root, outputs=_whole(root))
    for name in ("det/notes.txt", "sub/patches.txt", "shown/mine.png"):
        (root / "out" / name).write_text("mine")
    for name in ("det/Task1_of-another-list.txt", "sub/Task1_of-another-list.txt"):
        (root / "out" / name).write_text("old")
    with pytest.raises(OutputExistsError, match="not empty"):
        _test(root, outputs=Outputs(root / "new", root / "new2", root / "out/shown"))
    _test(root, outputs=_whole(root), overwrite=True)
    for name in ("det/notes.txt", "sub/patches.txt", "shown/mine.png"):
        assert (root / "out" / name).read_text() == "mine"
    assert not list((root / "out").glob("*/Task1_of-another-list.txt"))


@pytest.mark.parametrize(
    ("place", "outputs"),
    [
        ("the checkpoint", lambda root: Outputs(root)),
        ("images", lambda root: Outputs(root / "data")),
        ("labels", lambda root: Outputs(root / "out", root / "data" / "labelTxt")),
        ("manifest", lambda root: Outputs(root / "out", None, root / "split")),
    ],
)
def test_an_input_is_no_output(place, outputs, root, loaded):
    (root / "split").mkdir()
    (root / "split/manifest.json").write_text("{}")
    with pytest.raises(OutputExistsError, match=r"holds the input|would be read and written"):
        _test(root, {"data.val.manifest": str(root / "split/manifest.json")}, split="val", outputs=outputs(root),
              overwrite=True)  # fmt: skip
    assert not loaded


def test_ids_that_the_server_does_not_know_are_told(root, loaded):
    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append((record.levelname, record.getMessage()))
    logging.getLogger("mmrotate").addHandler(handler)
    for path in sorted((root / "data").glob("*/im*")):
        path.rename(path.with_name(path.name.replace("im", "i m")))
    try:
        _test(root, outputs=_whole(root))
    finally:
        logging.getLogger("mmrotate").removeHandler(handler)
    assert [text for level, text in said if level == "WARNING"] == [
        "1 image id is written with escapes ('i m' as i%20m); DOTA's server does not know such ids"
    ]


def test_other_processes_predict_and_write_nothing(root, loaded, monkeypatch):
    monkeypatch.setattr(testing, "start_runtime", lambda *_: _runtime(1))
    monkeypatch.setattr(testing, "predict", lambda model, loader: None)
    _test(root, outputs=_whole(root))
    assert len(loaded) == 1
    assert not (root / "out").exists()


def _runtime(rank: int):
    from fdam_rotate.apis.runtime import Runtime

    return Runtime("cpu", 0, rank, 2)
