"""docs/predict.md, run as written: from a checkpoint to a GeoPackage."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from page_data import page_data
from prep_scenes import tree
from scripts import ROOT, load_script
from square_model import write_square_model

rasterio = pytest.importorskip("rasterio")
pyogrio = pytest.importorskip("pyogrio")
pytest.importorskip("onnxruntime")


@pytest.mark.slow
def test_from_a_checkpoint_to_qgis(tmp_path, monkeypatch):
    from random_detectors import DEMO, random_detector

    from fdam_rotate.apis.checkpoints.checkpoint import save_checkpoint_file

    detector, _ = random_detector(model__backbone__depths=[1, 1, 1, 1])
    save_checkpoint_file(tmp_path / "my_checkpoint.pth", detector.state_dict())
    text = f"_base_ = {str(DEMO)!r}\nmodel = dict(backbone=dict(depths=[1, 1, 1, 1]))\n"
    (tmp_path / "my_config.py").write_text(text)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 300, 700), dtype=np.uint8)
    place = rasterio.transform.from_origin(500_000, 4_000_000, 0.5, 0.5)
    with rasterio.open(
        tmp_path / "city.tif", "w", driver="GTiff", width=700, height=300, count=3, dtype="uint8", crs="EPSG:32633",
        transform=place,
    ) as file:  # fmt: skip
        file.write(pixels)
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs/predict.md").read_text().split("## The file")[0]
    lines = [line.split() for line in text.splitlines() if line.startswith("    ")]
    commands = ["export", "predict", "predict", "predict", "show"]
    assert [line[:2] for line in lines] == [["fdam-rotate", command] for command in commands]
    for _, command, *words in lines:
        assert load_script(f"tools/{command}.py").main(words) == 0
    rows = (tmp_path / "ships/Task1.csv").read_text().splitlines()
    assert rows[0] == "image,class,score,x1,y1,x2,y2,x3,y3,x4,y4"
    assert {row.split(",")[1] for row in rows[1:]} <= {"ship", "harbor"}
    boxes = pyogrio.raw.read(tmp_path / "found/gpkg/city.gpkg")
    assert len(boxes[2]) > 10
    west, south, east, north = pyogrio.read_info(tmp_path / "found/gpkg/city.gpkg")["total_bounds"]
    assert 14.9 < west < east < 15.1, "UTM zone 33 has 15 degrees at 500,000 m"
    assert 36.1 < south < north < 36.2
    page = page_data((tmp_path / "seen/html/city.html").read_text())
    assert len(page["boxes"]["scores"]) == len(boxes[2])
    half = page["boxes"]["sides"][:, :2] / 2  # pixels of half a metre, on the middle meridian
    np.testing.assert_allclose(page["boxes"]["metres"], half / 0.9996, rtol=1e-4, atol=1e-4)
    assert (tmp_path / "pages/city.html").read_bytes() == (tmp_path / "seen/html/city.html").read_bytes()


@pytest.mark.slow
def test_many_processes(tmp_path):
    """The scheduler, its workers and both predictions of docs/predict.md, in a shell; only the port is a free one."""
    pytest.importorskip("distributed")
    folder = Path(sys.executable).parent
    if not (folder / "dask").exists():
        pytest.skip("the command dask is not beside this Python")
    block = (ROOT / "docs/predict.md").read_text().split("```sh\n")[1].split("```")[0]
    with socket.socket() as free:
        free.bind(("localhost", 0))
        block = block.replace("8786", str(free.getsockname()[1]))
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin/fdam-rotate"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m fdam_rotate.commands "$@"\n')
    command.chmod(0o755)
    write_square_model(tmp_path / "model.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 200, 150), dtype=np.uint8)
    with rasterio.open(
        tmp_path / "city.tif", "w", driver="GTiff", width=150, height=200, count=3, dtype="uint8"
    ) as file:
        file.write(pixels)
    env = {
        **os.environ,
        "PATH": os.pathsep.join([str(tmp_path / "bin"), str(folder), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
    }
    with (tmp_path / "log").open("w") as log:
        shell = subprocess.Popen(
            ["bash", "-e", "-c", block], cwd=tmp_path, stdout=log, stderr=log, env=env, start_new_session=True
        )
        try:
            code = shell.wait(300)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)  # what the shell started, if it did not come to its end
    assert code == 0, (tmp_path / "log").read_text()
    assert tree(tmp_path / "shared_out") == tree(tmp_path / "processes")
    assert (tmp_path / "log").read_text().count("1 image, 12 patches") == 2
