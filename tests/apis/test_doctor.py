"""The doctor's hand-worked values hold here, and a wrong op or version is found."""

from __future__ import annotations

import mmcv.ops
import torch

from fdam_rotate.apis import doctor
from fdam_rotate.models.layers import cpu
from fdam_rotate.models.layers.cpu import library


def test_this_installation_is_well():
    assert doctor.check_versions() == []
    assert doctor.check_ops("cpu") == []
    assert doctor.check_kernels() == []


def test_a_wrong_iou_is_found(monkeypatch):
    real = mmcv.ops.box_iou_rotated
    monkeypatch.setattr(mmcv.ops, "box_iou_rotated", lambda a, b: real(a, b) * 0.99)
    (problem,) = doctor.check_ops("cpu")
    assert problem.startswith("box_iou_rotated on cpu")
    assert "mmcv-full==1.7.2" in problem


def test_an_op_that_keeps_too_much_is_found(monkeypatch):
    monkeypatch.setattr(mmcv.ops, "nms_rotated", lambda boxes, scores, thr: (None, torch.tensor([1, 2, 0])))
    (problem,) = doctor.check_ops("cpu")
    assert "kept [[1, 2, 0], [1, 2, 0]]" in problem


def test_a_missing_op_is_told_in_one_line(monkeypatch):
    class Missing:
        def __init__(self, *args, **kwargs):
            raise AttributeError("module has no attribute\nsecond line")

    monkeypatch.setattr(mmcv.ops, "RoIAlignRotated", Missing)
    (problem,) = doctor.check_ops("cpu")
    assert "AttributeError" in problem
    assert "\n" not in problem


def test_another_version_is_told_with_the_cure(monkeypatch):
    found = doctor.versions()
    monkeypatch.setattr(doctor, "versions", lambda: {**found, "mmdet": "3.0.0"})
    assert any("mmdet is 3.0.0, 2.28.2 is needed" in problem for problem in doctor.check_versions())


def test_kernels_that_were_not_built_are_told_with_the_cure(monkeypatch):
    monkeypatch.setattr(library, "_library", lambda: None)
    (problem,) = doctor.check_kernels()
    assert "was not built" in problem
    assert problem.endswith(": .venv/bin/pip install --no-build-isolation --no-deps --force-reinstall --editable .")


def test_wrong_kernels_are_found(monkeypatch):
    monkeypatch.setattr(cpu, "scaled", lambda x, *_, **__: (2 * x, None))
    (problem,) = doctor.check_kernels()
    assert "is not [[[[0.0, 3.0" in problem
