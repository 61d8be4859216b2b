"""One process, several, or a Dask cluster: the same answers and the same bytes; a worker that dies is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from prep_scenes import make_dataset, tree

from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.splitting import split as split_module
from fdam_rotate.dota.splitting.options import SplitOptions
from fdam_rotate.dota.splitting.split import run_split, split_image
from fdam_rotate.dota.splitting.tasks import ImageTask, TaskResult
from fdam_rotate.dota.workers import WorkerDied, run_tasks

OPTIONS = SplitOptions(sizes=[64], gaps=[16])


def square(value: int) -> int:
    return value * value


def die_at_three(value: int) -> int:
    if value == 3:
        os._exit(9)
    return -value


def fail_at_two(value: int) -> int:
    if value == 2:
        raise DotaError("two is bad")
    return value


def die_at_the_second_image(task: ImageTask) -> TaskResult:
    if task.image_id == "P0001":
        os._exit(9)
    return split_image(task)


@pytest.mark.parametrize("nproc", [1, 2])
def test_all_tasks_are_answered(nproc: int) -> None:
    assert sorted(run_tasks(square, range(7), nproc=nproc)) == [(i, i * i) for i in range(7)]
    assert list(run_tasks(square, [], nproc=nproc)) == []


def test_a_worker_that_dies_costs_its_own_task_only() -> None:
    answers = dict(run_tasks(die_at_three, range(6), nproc=2))
    assert isinstance(answers.pop(3), WorkerDied)
    assert answers == {0: 0, 1: -1, 2: -2, 4: -4, 5: -5}


def test_what_a_task_raises_is_raised() -> None:
    with pytest.raises(DotaError, match="two is bad"):
        list(run_tasks(fail_at_two, range(6), nproc=2))


def test_a_crash_names_its_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_dataset(tmp_path / "data", [(100, 80)] * 3, 0, objects=0)
    monkeypatch.setattr(split_module, "split_image", die_at_the_second_image)
    manifest = run_split([data / "images"], [data / "labelTxt"], tmp_path / "out", OPTIONS, nproc=2)
    assert [image["id"] for image in manifest.images] == ["P0000", "P0002"]
    (problem,) = manifest.all_problems()
    assert (problem["kind"], Path(problem["file"]).name) == ("worker", "P0001.png")
    assert manifest.totals()["skipped"] == 1


def test_two_processes_and_a_dask_cluster_give_the_same_bytes(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    data = make_dataset(tmp_path / "data", [(150, 130), (64, 64), (90, 200)], 1)
    folders = ([data / "images"], [data / "labelTxt"])
    run_split(*folders, tmp_path / "one", OPTIONS)
    run_split(*folders, tmp_path / "two", OPTIONS, nproc=2)
    expected = tree(tmp_path / "one")
    assert tree(tmp_path / "two") == expected
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        dashboard_address=None,
        local_directory=str(tmp_path / "dask"),
    ) as cluster:
        run_split(*folders, tmp_path / "dasked", OPTIONS, scheduler=cluster.scheduler_address)
    assert tree(tmp_path / "dasked") == expected


def test_a_scheduler_that_is_not_there(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    with pytest.raises(DotaError, match="no-such-place"):
        list(run_tasks(square, [1], scheduler="no-such-place"))
