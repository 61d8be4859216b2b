"""Prediction by several workers: the bytes of one process, whoever dies on the way."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from prep_scenes import tree
from square_finder import SIDE, Finder

from fdam_rotate.dota.errors import DotaError, WorkerError
from fdam_rotate.dota.layout import SourceImage
from fdam_rotate.dota.predicting.journal import Journal
from fdam_rotate.dota.predicting.parts import Part, Piece, _gpu_of, cut, divide
from fdam_rotate.dota.predicting.predict import PredictSummary, predict_images
from fdam_rotate.dota.rasters.options import RasterOptions
from fdam_rotate.dota.splitting.options import SplitOptions

OPTIONS = SplitOptions(sizes=(64,), gaps=(16,))
DEADLY = 77  # below what counts as bright; it lies in one window of "large" only


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[SourceImage]:
    """One image of 28 windows, and five of one or two."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(5)
    found = []
    for name, (width, height) in {
        "a": (130, 50), "b": (60, 60), "c": (64, 64), "large": (330, 200), "y": (90, 64), "z": (40, 30),
    }.items():  # fmt: skip
        image = np.zeros((height, width, 3), np.uint8)
        for y in range(4, height - SIDE, 24):
            for x in range(4, width - SIDE, 24):
                image[y : y + SIDE, x : x + SIDE] = rng.integers(100, 256)
        if name == "large":
            image[2, 170] = DEADLY
        path = folder / f"{name}.png"
        assert cv2.imwrite(str(path), image)
        found.append(SourceImage(name, path, None))
    return found


@pytest.fixture(scope="module")
def expected(sources: list[SourceImage], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one process writes."""
    folder = tmp_path_factory.mktemp("one")
    summary = predict_images(Finder(folder), sources, folder / "out", OPTIONS, batch_size=2)
    assert summary.detections > 100
    return tree(folder / "out")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Dask cluster of two processes, whose dead workers are replaced."""
    distributed = pytest.importorskip("distributed")
    dask = pytest.importorskip("dask")
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=2,
            processes=True,
            dashboard_address=None,
            local_directory=str(tmp_path_factory.mktemp("dask")),
        ) as running,
    ):
        running.adapt(minimum=2, maximum=2, interval="200ms")  # a worker that dies as it begins is replaced too
        yield running.scheduler_address


@pytest.fixture(params=["processes", "dask"])
def workers(request: pytest.FixtureRequest) -> dict[str, object]:
    return {"nproc": 2} if request.param == "processes" else {"scheduler": request.getfixturevalue("cluster")}


def run(model: Finder, sources: list[SourceImage], out: Path, **settings: object) -> PredictSummary:
    return predict_images(model, sources, out, OPTIONS, batch_size=2, **settings)  # type: ignore[arg-type]


def test_workers_write_the_bytes_of_one_process(sources, expected, tmp_path, workers):
    model = Finder(tmp_path)
    summary = run(model, sources, tmp_path / "out", **workers)
    assert tree(tmp_path / "out") == expected
    assert (summary.images, summary.failures) == (len(sources), [])
    processes = {process for process, _ in model.notes("seen")}
    assert len(processes) == 2
    assert os.getpid() not in processes
    assert len(model.notes("loaded")) == 2, "each loads the model once, whatever number of parts it gets"


def test_a_killed_workers_windows_are_done_again(sources, expected, tmp_path, workers):
    model = Finder(tmp_path, kill_once=DEADLY)
    summary = run(model, sources, tmp_path / "out", **workers)
    assert (tmp_path / "killed").exists()
    assert summary.failures == []
    assert tree(tmp_path / "out") == expected


@pytest.mark.slow
def test_a_window_that_kills_again_and_again_is_named_and_costs_its_image_only(sources, expected, tmp_path, workers):
    out = tmp_path / "out"
    summary = run(Finder(tmp_path, deadly=DEADLY), sources, out, **workers)
    (line,) = summary.failures
    assert line.startswith(f"{sources[3].path}: the worker process that predicts its window large__64__144___0 dies")
    assert summary.images == len(sources) - 1
    without = {name: lines(data, skip=b"large ") for name, data in expected.items() if name.startswith("Task1")}
    assert {name: lines(data) for name, data in tree(out).items() if name.startswith("Task1")} == without
    kept = len((out / "patches/large.jsonl").read_text().splitlines())
    mended = Finder(tmp_path)
    (tmp_path / "seen").unlink()
    summary = run(mended, sources, out, overwrite=True, **workers)
    assert tree(out) == expected, "goes on from what was kept"
    assert summary.windows - summary.resumed == expected["patches/large.jsonl"].count(b"\n") - kept


def lines(data: bytes, skip: bytes | None = None) -> list[bytes]:
    return [line for line in data.splitlines() if skip is None or not line.startswith(skip)]


def test_a_model_that_kills_while_it_is_loaded_ends_the_run(sources, tmp_path):
    with pytest.raises(WorkerError, match="die when they load the model"):
        run(Finder(tmp_path, dies_loading=True), sources[:1], tmp_path / "out", nproc=2)


def test_a_cluster_without_workers(sources, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr("fdam_rotate.dota.workers._PATIENCE", 1.0)
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster,
        pytest.raises(DotaError, match=r"has had no worker for 1 s"),
    ):
        run(Finder(tmp_path), sources, tmp_path / "out", scheduler=cluster.scheduler_address)


def test_a_cluster_that_loses_its_workers_ends_the_run(sources, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr("fdam_rotate.dota.workers._LOOK", 0.2)
    monkeypatch.setattr("fdam_rotate.dota.workers._PATIENCE", 1.0)
    settings = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None, "local_directory": str(tmp_path)}
    with distributed.LocalCluster(processes=True, **settings) as cluster:
        add = Journal.add

        def losing(self, windows):
            cluster.scale(0)
            add(self, windows)

        monkeypatch.setattr(Journal, "add", losing)
        with pytest.raises(DotaError, match=r"tcp://[0-9.:]+ has had no worker for 1 s"):
            run(Finder(tmp_path), sources, tmp_path / "out", scheduler=cluster.scheduler_address)


@pytest.mark.slow
def test_windows_that_all_kill_end_the_run(sources, tmp_path):
    with pytest.raises(WorkerError, match=r"at the windows a__64__0___0, a__64__48___0, a__64__66___0 \(out of"):
        run(Finder(tmp_path, deadly=-1), sources[:1], tmp_path / "out", nproc=2)


def test_what_the_model_says_reaches_the_user(sources, tmp_path, workers):
    with pytest.raises(DotaError, match="gives numbers that are no boxes"):
        run(Finder(tmp_path, refuses="gives numbers that are no boxes"), sources, tmp_path / "out", **workers)


def test_an_image_that_cannot_be_decoded_costs_itself_only(sources, expected, tmp_path, workers):
    broken = tmp_path / "broken.png"
    broken.write_bytes(sources[0].path.read_bytes()[:-40])  # a whole header
    listed = sorted([*sources, SourceImage("broken", broken, None)], key=lambda source: source.image_id)
    summary = run(Finder(tmp_path), listed, tmp_path / "out", **workers)
    (line,) = summary.failures
    assert str(broken) in line
    assert tree(tmp_path / "out") == expected


def test_a_stopped_run_goes_on_with_other_workers(sources, expected, tmp_path, monkeypatch):
    """And a batch of which one window was kept is done again whole: its numbers may depend on its size."""
    add = Journal.add
    calls = []

    def stopping(self, windows):
        calls.append(len(windows))
        if len(calls) == 9:
            add(self, dict(list(windows.items())[:1]))  # killed between two lines
            raise KeyboardInterrupt
        add(self, windows)

    monkeypatch.setattr(Journal, "add", stopping)
    others = set(multiprocessing.active_children())
    with pytest.raises(KeyboardInterrupt):
        run(Finder(tmp_path), sources, tmp_path / "out", nproc=2)
    monkeypatch.setattr(Journal, "add", add)
    for process in set(multiprocessing.active_children()) - others:  # they end what they were at
        process.join()
    (tmp_path / "seen").unlink()
    model = Finder(tmp_path)
    summary = run(model, sources, tmp_path / "out", nproc=2)
    assert tree(tmp_path / "out") == expected
    total = sum(data.count(b"\n") - 1 for name, data in expected.items() if name.startswith("patches/"))
    assert summary.resumed == sum(calls[:8]) + 1
    assert sum(count for _, count in model.notes("seen")) == total - summary.resumed + 1


def test_a_large_raster_is_shared_out(tmp_path):
    """Of 16 bits, so that its range is looked for; two columns of six windows hold no data."""
    rasterio = pytest.importorskip("rasterio")
    pixels = np.random.default_rng(1).integers(1, 4000, (3, 260, 420), np.uint16)
    pixels[:, :, 140:280] = 0
    path = tmp_path / "city.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=420, height=260, count=3, dtype="uint16", nodata=0, tiled=True, blockxsize=64,
        blockysize=64, crs="EPSG:4326", transform=rasterio.Affine(1e-5, 0, 7, 0, -1e-5, 50),
    ) as file:  # fmt: skip
        file.write(pixels)
    found = [SourceImage("city", path, None)]
    one = run(Finder(tmp_path), found, tmp_path / "one")
    two = run(Finder(tmp_path), found, tmp_path / "two", nproc=2)
    assert one == two
    assert (one.empty, one.windows, one.geojson, len(one.notes)) == (12, 54, 1, 1)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_threads_times_processes_are_the_cores(sources, tmp_path, monkeypatch):
    monkeypatch.setattr("fdam_rotate.dota.predicting.predict.core_count", lambda: 7)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    model = Finder(tmp_path)
    run(model, sources, tmp_path / "out", nproc=2)
    assert sorted((told["threads"], told["gpu"]) for _, told in model.notes("loaded")) == [(3, "4"), (3, "6")]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,6"


def test_a_dask_worker_has_the_threads_that_it_was_given(sources, tmp_path, cluster):
    model = Finder(tmp_path)
    run(model, sources, tmp_path / "out", scheduler=cluster)
    assert {told["threads"] for _, told in model.notes("loaded")} == {2}


@pytest.mark.parametrize(
    ("index", "visible", "present", "own"),
    [
        pytest.param(1, None, 4, "1", id="all GPUs of the machine"),
        pytest.param(5, None, 4, "1", id="more workers than GPUs"),
        pytest.param(1, "2, 3", 8, "3", id="those that the user lets be seen"),
        pytest.param(3, "GPU-ab,GPU-cd", 2, "GPU-cd", id="by their names"),
        pytest.param(1, "2", 8, None, id="one is shared"),
        pytest.param(1, "", 8, None, id="none wanted"),
        pytest.param(1, None, 0, None, id="none there"),
    ],
)
def test_each_worker_has_its_gpu(index, visible, present, own):
    assert _gpu_of(index, visible, present) == own


def test_pieces_are_cut_between_batches_and_parts_divided_to_windows():
    piece = Piece(0, "a", Path("/a.png"), RasterOptions(), ((3, 1), (4, 0), (2,)))
    assert [one.batches for one in cut(piece, 4)] == [((3, 1), (4, 0)), ((2,),)]
    assert [one.batches for one in cut(piece, 1)] == [((3, 1),), ((4, 0),), ((2,),)]
    assert list(cut(Piece(0, "a", Path("/a.png"), RasterOptions(), ()), 4)) == []
    load, *single = divide(Part(b"", 1, OPTIONS, (piece,)))
    assert load.pieces == ()
    assert [part.pieces[0].batches for part in single] == [((k,),) for k in (3, 1, 4, 0, 2)]
    assert [divide(part) for part in (load, single[0])] == [[], []]
