"""The wheel in an empty environment predicts with an exported model: no torch, no MMRotate, no compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("onnx")

from square_model import SIZE, write_square_model


def run(*words: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]


@pytest.mark.slow
def test_the_wheel_predicts_in_an_empty_environment(repo, tmp_path):
    source = tmp_path / "source"
    names = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "fdam_rotate", "configs")
    source.mkdir()
    for path in (repo / name for name in names):
        if path.is_dir():
            shutil.copytree(path, source / path.name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        else:
            shutil.copy(path, source)
    without = {**os.environ, "CC": "false", "CXX": "false"}
    built = run(sys.executable, "-m", "pip", "wheel", source, "--no-deps", "--no-build-isolation", "-q", "-w", tmp_path,
                env=without)  # fmt: skip
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("fdam_rotate-*.whl")

    assert run(sys.executable, "-m", "venv", tmp_path / "venv").returncode == 0
    programs = tmp_path / "venv" / "bin"
    installed = run(
        programs / "pip", "install", "-q", "--retries", 0, "--timeout", 10, f"{wheel}[predict]", env=without
    )
    if installed.returncode:
        pytest.skip(f"pip cannot install the wheel's dependencies here: {installed.stderr.strip().splitlines()[-1]}")
    held = run(programs / "pip", "list", "--format", "freeze").stdout
    assert not {line.split("==")[0] for line in held.splitlines()} & {"torch", "mmcv-full", "mmdet", "mmrotate"}

    pixels = np.zeros((SIZE, SIZE, 3), np.uint8)
    pixels[8:16, 8:16] = 204, 0, 0
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    model = write_square_model(tmp_path / "m.onnx")
    elsewhere = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = run(programs / "fdam-rotate", "predict", model, tmp_path / "a.png", "--out", tmp_path / "out", "--html",
               cwd=tmp_path, env=elsewhere)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "new Boxes(" in (tmp_path / "out" / "html" / "a.html").read_text(), "the page's script came along"
    (line,) = Path(tmp_path / "out" / "Task1_plane.txt").read_text().splitlines()
    image_id, score, *_ = line.split()
    assert image_id == "a"
    assert abs(float(score) - 0.8) < 1e-6
