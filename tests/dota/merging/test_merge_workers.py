"""Merging by several workers: the bytes of one process, and a worker that dies."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from prep_scenes import tree

from fdam_rotate.commands import merge as command
from fdam_rotate.dota.detections import Detections, write_detections
from fdam_rotate.dota.geometry import le90_to_poly
from fdam_rotate.dota.merging import suppress as module
from fdam_rotate.dota.merging.merge_files import merge_files

SUPPRESS = module._suppress_one


def die_once(call):
    flag = Path(os.environ["DIED"])
    if not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return SUPPRESS(call)


@pytest.fixture
def found(tmp_path) -> Path:
    """Two classes on six patches of three images, with many doubles."""
    rng = np.random.default_rng(0)
    ids = tuple(f"P{k // 2}__1024__{824 * (k % 2)}___0" for k in range(6))
    classes = {}
    for name in ("plane", "ship"):
        boxes = np.column_stack([rng.uniform(0, 1024, (3000, 2)), rng.uniform(8, 40, (3000, 2)), np.zeros(3000)])
        image = np.sort(rng.integers(0, 6, 3000))
        classes[name] = Detections(ids, image, rng.uniform(0, 1, 3000), le90_to_poly(boxes))
    write_detections(tmp_path / "in", classes)
    return tmp_path / "in"


def test_a_dask_cluster_and_processes_merge_to_the_same_bytes(tmp_path, found, monkeypatch, capsys):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(module, "_POOL_BOXES", 1000)
    monkeypatch.setenv("DIED", str(tmp_path / "died"))
    words = [str(found), "--classes", "plane,ship", "--out"]
    assert command.main([*words, str(tmp_path / "one")]) == 0
    assert command.main([*words, str(tmp_path / "two"), "--nproc", "2"]) == 0
    settings = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(processes=True, local_directory=str(tmp_path / "dask"), **settings) as cluster:
        assert command.main([*words, str(tmp_path / "dasked"), "--scheduler", cluster.scheduler_address]) == 0
    told = {line.split(";")[0] for line in capsys.readouterr().out.splitlines() if "detections in" in line}
    assert len(told) == 1
    for name in ("two", "dasked"):
        assert tree(tmp_path / name) == tree(tmp_path / "one")
        assert (tmp_path / f"{name}.zip").read_bytes() == (tmp_path / "one.zip").read_bytes()


def test_what_a_killed_worker_was_at_is_done_again(tmp_path, found, monkeypatch):
    monkeypatch.setattr(module, "_POOL_BOXES", 1000)
    monkeypatch.setenv("DIED", str(tmp_path / "died"))
    merge_files([found], tmp_path / "one", ["plane", "ship"])
    monkeypatch.setattr(module, "_suppress_one", die_once)
    merge_files([found], tmp_path / "two", ["plane", "ship"], nproc=2)
    assert (tmp_path / "died").exists()
    assert tree(tmp_path / "two") == tree(tmp_path / "one")


def test_what_a_killed_worker_of_a_cluster_was_at_is_done_again(tmp_path, found, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setenv("DIED", str(tmp_path / "died"))
    merge_files([found], tmp_path / "one", ["plane", "ship"])
    monkeypatch.setattr(module, "_suppress_one", die_once)
    settings = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(processes=True, local_directory=str(tmp_path / "dask"), **settings) as cluster:
        merge_files([found], tmp_path / "two", ["plane", "ship"], scheduler=cluster.scheduler_address)
    assert (tmp_path / "died").exists()
    assert tree(tmp_path / "two") == tree(tmp_path / "one")
