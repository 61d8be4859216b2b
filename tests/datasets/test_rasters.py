"""Images that were never split: training and testing see the pixels that predict sees, whatever the kind of file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import mmcv
import numpy as np
import pytest
from mmcv import Config

from fdam_rotate.apis.predict import TorchModel
from fdam_rotate.commands import predict as command
from fdam_rotate.datasets import DOTAPatchDataset, LoadAnyImage
from fdam_rotate.dota.errors import DotaError, ImageReadError
from fdam_rotate.dota.predicting.model import Found

rasterio = pytest.importorskip("rasterio")
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

SIDE = 64
SHIP = "10 20 40 20 40 30 10 30 ship 0\n"
LOAD = [{"type": "LoadImageFromFile"}]


def store(folder: Path, bands: np.ndarray, **profile: Any) -> Path:
    """``folder/images/scene.tif`` and a label for it; returns the image."""
    for part in ("images", "annfiles"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "annfiles" / "scene.txt").write_text(SHIP)
    path = folder / "images" / "scene.tif"
    count, height, width = bands.shape
    layout = {"driver": "GTiff", "width": width, "height": height, "count": count, "dtype": bands.dtype}
    with rasterio.open(path, "w", **(layout | profile)) as file:
        file.write(bands)
    return path


def trained_on(folder: Path, steps: Sequence[dict[str, Any]] = LOAD, **settings: Any) -> dict[str, Any]:
    """What the first steps of a pipeline make of the only image; the same in training and in testing."""
    folders = {"ann_file": str(folder / "annfiles"), "img_prefix": str(folder / "images")}
    sets = [DOTAPatchDataset(pipeline=steps, classes="ship", test_mode=mode, **folders, **settings) for mode in (0, 1)]
    train, test = (part[0] for part in sets)
    assert (train["img"] == test["img"]).all()
    return train


def predicted_on(image: Path, out: Path, monkeypatch: pytest.MonkeyPatch, *words: str, **settings: Any) -> np.ndarray:
    """The one window that ``fdam-rotate predict`` gives to a model of a config with these settings of data.test."""
    seen: list[np.ndarray] = []

    class Watching(TorchModel):
        def prepare(self, threads: int | None = None) -> None:
            pass

        def detect(self, windows: Sequence[np.ndarray]) -> list[Found]:
            seen.extend(windows)
            return [Found(np.empty((0, 5)), np.empty(0), np.empty(0, np.intp)) for _ in windows]

    checkpoint = out.with_suffix(".pth")
    checkpoint.write_bytes(b"weights")
    config = out.with_suffix(".py")
    test = dict(type="DOTAPatchDataset", classes=["ship"], pipeline=LOAD, **settings)
    config.write_text(
        Config(dict(model=dict(type="None", backbone=dict(type="None")), data=dict(test=test))).pretty_text
    )
    monkeypatch.setattr("fdam_rotate.apis.predict.TorchModel", Watching)
    window = ["--sizes", str(SIDE), "--gaps", "0"]
    assert command.main([str(config), str(checkpoint), str(image), "--out", str(out), *window, *words]) == 0
    (pixels,) = seen
    return pixels


def deep(count: int) -> np.ndarray:
    """(count, SIDE, SIDE) of uint16, 11 bits of it used, each band in a range of its own."""
    rng = np.random.default_rng(3)
    return np.stack([rng.integers(50 * k, 900 + 300 * k, (SIDE, SIDE)) for k in range(1, count + 1)]).astype(np.uint16)


@pytest.mark.parametrize(
    ("bands", "profile"),
    [
        (deep(3), {}),
        (deep(4), {"photometric": "RGB", "alpha": "NO"}),
        (deep(8), {}),
        (deep(1), {}),
        (deep(3).astype(np.float32), {"compress": "zstd"}),
        ((deep(4) // 8).astype(np.uint8), {"alpha": "NO"}),
    ],
    ids=["three", "near infrared", "eight", "grey", "float", "8 bits of four"],
)
def test_training_sees_what_predict_sees(bands, profile, tmp_path, monkeypatch):
    image = store(tmp_path, bands, **profile)
    pixels = trained_on(tmp_path)["img"]
    assert pixels.shape == (SIDE, SIDE, 3)
    assert pixels.std() > 30  # OpenCV gives 11 bits of 16 as nearly black
    assert (pixels == predicted_on(image, tmp_path / "out", monkeypatch)).all()


def test_bands_and_range_of_the_config_serve_training_and_predict(tmp_path, monkeypatch):
    bands = deep(4)
    image = store(tmp_path, bands)
    settings = {"bands": [4, 3, 1], "scale_range": (0, 2040)}
    levels = np.minimum(np.floor(bands / 8 + 0.5), 255)  # 2040 is 8 * 255
    expected = np.moveaxis(levels[[0, 2, 3]], 0, -1)  # blue, green, red
    assert (trained_on(tmp_path, **settings)["img"] == expected).all()
    assert (predicted_on(image, tmp_path / "own", monkeypatch, **settings) == expected).all()
    # what is told on the command line counts more
    other = predicted_on(image, tmp_path / "told", monkeypatch, "--bands", "1", **settings)
    assert (other[..., 0] == other[..., 2]).all()
    told = predicted_on(image, tmp_path / "range", monkeypatch, "--scale-range", "0", "4080", **settings)
    assert (told == np.moveaxis(np.floor(bands[[2, 1, 0]] / 16 + 0.5), 0, -1)).all()


def test_what_the_steps_after_it_need(tmp_path):
    image = store(tmp_path, deep(3)[:, :40])
    for settings, kind in (({}, np.uint8), ({"to_float32": True}, np.float32)):
        loaded = trained_on(tmp_path, [{**LOAD[0], **settings}])
        assert loaded["img"].dtype == kind
        assert loaded["img_shape"] == loaded["ori_shape"] == (40, SIDE, 3)
        assert (loaded["filename"], loaded["ori_filename"]) == (str(image), "scene.tif")
        assert loaded["img_fields"] == ["img"]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
def test_plain_pictures_are_loaded_as_mmdetection_does(suffix, tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    cv2.imwrite(str(tmp_path / f"a{suffix}"), pixels)
    monkeypatch.setattr("fdam_rotate.datasets.pipelines.read_image", None)
    results = {"img_prefix": str(tmp_path), "img_info": {"filename": f"a{suffix}"}}
    loaded = LoadAnyImage()(results)
    assert (loaded["img"] == mmcv.imread(str(tmp_path / f"a{suffix}"))).all()
    whole = {"img_prefix": None, "img_info": {"filename": str(tmp_path / f"a{suffix}")}}
    assert (LoadAnyImage()(whole)["img"] == loaded["img"]).all()


def test_bands_of_a_plain_picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    loaded = LoadAnyImage(bands=(3, 2, 1))({"img_prefix": str(tmp_path), "img_info": {"filename": "a.png"}})
    assert (loaded["img"] == pixels[..., ::-1]).all()


def test_impossible_settings_and_damaged_files_are_a_line(tmp_path):
    store(tmp_path, deep(3))
    with pytest.raises(DotaError, match="bands must be 3 numbers"):
        trained_on(tmp_path, bands=[1, 2])
    with pytest.raises(ImageReadError, match=r"scene\.tif: has 3 bands, and --bands asks for 5 2 1"):
        trained_on(tmp_path, bands=[5, 2, 1])
    path = tmp_path / "images" / "scene.tif"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ImageReadError, match=r"scene\.tif"):
        trained_on(tmp_path)
