"""The processes of torchrun as workers: tasks go to whoever is free, and the end of one ends all with a line."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing import AuthenticationError, Pipe
from multiprocessing.connection import Client
from pathlib import Path
from queue import SimpleQueue

import cv2
import numpy as np
import pytest
from prep_scenes import tree
from scripts import ROOT, load_script

from fdam_rotate.apis import ranks as ranks_module
from fdam_rotate.apis.ranks import Ranks, join_ranks, serve
from fdam_rotate.dota.errors import DotaError, WorkerError
from fdam_rotate.dota.workers import run_tasks

RELEASED = ROOT / "configs/released/vhr10_small"
MODEL = [str(RELEASED / "vhr10_small.py"), str(RELEASED / "vhr10_small.safetensors")]


def where(task: int) -> tuple[int, str]:
    return task, threading.current_thread().name


def wait_for_both(task: int) -> int:
    BOTH.wait(20)  # in one thread alone this breaks
    return task


def fail_at_two(task: int) -> int:
    if task == 2:
        raise DotaError("two is bad")
    return task


BOTH = threading.Barrier(2)


@pytest.fixture
def ranks():
    """The first process, with a second one that is a thread here."""
    here, there = Pipe()
    thread = threading.Thread(target=serve, args=(there,), name="rank 1")
    thread.start()
    with Ranks([here]) as pool:
        yield pool
    thread.join(20)
    assert not thread.is_alive(), "it ends with the first"


def test_all_tasks_are_answered(ranks):
    found = [result for _, result in run_tasks(where, range(20), pool=ranks)]
    assert sorted(task for task, _ in found) == list(range(20))


def test_both_work_at_the_same_time(ranks):
    assert sorted(run_tasks(wait_for_both, range(6), pool=ranks)) == [(k, k) for k in range(6)]


def test_what_a_task_raises_is_raised(ranks):
    with pytest.raises(DotaError, match="two is bad"):
        list(run_tasks(fail_at_two, [2] * 6, pool=ranks))


def slowly(number):
    """So that this process has not done all before the other has been asked."""
    time.sleep(0.05)
    return number


def test_a_process_that_ends_is_told():
    here, there = Pipe()
    there.close()
    with Ranks([here]) as pool, pytest.raises(WorkerError, match="process 1 of the 2 that torchrun started has ended"):
        list(run_tasks(slowly, range(50), pool=pool))


class OddError(Exception):
    """That cannot be made again of its message alone."""

    def __init__(self, message: str, more: int) -> None:
        super().__init__(message)


def test_an_answer_that_cannot_be_read_does_not_hang_the_run():
    here, there = Pipe()
    there.send((False, OddError("odd", 1)))
    pool = Ranks.__new__(Ranks)
    pool.workers, pool._tasks = 2, SimpleQueue()
    future = pool.submit(where, 1)
    pool._tasks.put(None)
    pool._work(1, here)
    with pytest.raises(WorkerError, match="process 1 of the 2 that torchrun started answers what cannot be read: Type"):
        future.result(0)


def test_without_torchrun_it_is_said(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(DotaError, match=r"needs torchrun: torchrun --nproc_per_node=N tools/predict\.py"):
        join_ranks()


@pytest.mark.parametrize("end", [EOFError, ConnectionResetError, BrokenPipeError])
def test_a_process_ends_with_the_first_however_that_ended(end):
    class Connection(contextlib.nullcontext):
        def recv(self):
            raise end

    assert serve(Connection()) == 0


def test_what_nobody_works_on_yet_is_dropped_at_the_end():
    begun, go_on = threading.Event(), threading.Event()

    def wait(task: int) -> int:
        done.append(task)
        begun.set()
        go_on.wait(20)
        return task

    done: list[int] = []
    before = set(threading.enumerate())
    pool = Ranks([])
    (worker,) = set(threading.enumerate()) - before
    assert not worker.daemon, "this process does not end under it"
    futures = [pool.submit(wait, task) for task in range(5)]
    begun.wait(20)
    pool.shutdown()
    go_on.set()
    assert futures[0].result(20) == 0
    worker.join(20)
    assert not worker.is_alive()
    assert done == [0]


@pytest.fixture
def group(monkeypatch):
    """``group(world, meet)``: the first process of ``world``; ``meet(place, key)`` is what the others do then."""

    def make(world, meet, **environment):
        for name, value in {"RANK": "0", "MASTER_ADDR": "127.0.0.1", **environment}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(ranks_module.dist, "init_process_group", lambda backend: None)
        monkeypatch.setattr(ranks_module.dist, "get_rank", lambda: 0)
        monkeypatch.setattr(ranks_module.dist, "get_world_size", lambda: world)
        monkeypatch.setattr(ranks_module.dist, "broadcast_object_list", lambda told, src: meet(*told[0]))
        monkeypatch.setattr(ranks_module, "Ranks", list)
        return join_ranks()

    return make


def test_the_others_are_known_by_their_rank_and_strangers_are_not_let_in(group):
    kept = []

    def client(place, key, rank):
        with contextlib.suppress(AuthenticationError, OSError):
            connection = Client(place, authkey=key)
            connection.send(rank)
            connection.send(f"I am {rank}")
            kept.append(connection)

    def meet(place, key):
        for rank, own in ((7, b"guessed"), (2, key), (1, key)):
            threading.Thread(target=client, args=(place, own, rank), daemon=True).start()

    assert [connection.recv() for connection in group(3, meet)] == ["I am 1", "I am 2"]
    for connection in kept:
        connection.close()


@pytest.mark.parametrize(
    ("host", "here", "listens", "told"),
    [
        ("localhost", "0", "127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "0", "127.0.0.1", "127.0.0.1"),
        ("node7", "1", "127.0.0.1", "127.0.0.1"),  # all processes are on this machine
        ("node7", "0", "", "node7"),
    ],
)
def test_other_machines_are_listened_to_only_where_there_are_some(host, here, listens, told, group, monkeypatch):
    places, addresses = [], []
    listener = ranks_module.Listener

    def watched(address, **settings):
        addresses.append(address[0])
        return listener(("127.0.0.1", 0), **settings)

    monkeypatch.setattr(ranks_module, "Listener", watched)
    group(1, lambda place, key: places.append(place), MASTER_ADDR=host, LOCAL_WORLD_SIZE=here)
    assert (addresses, places[0][0]) == ([listens], told)


def scene(path: Path, width: int, height: int) -> Path:
    """Noise and squares; of windows of 256 with 64 of overlap, 700 x 500 are twelve."""
    pixels = np.random.default_rng(0).integers(0, 120, (height, width, 3), np.uint8)
    for x in range(20, width - 60, 80):
        cv2.rectangle(pixels, (x, 3 * x // 5), (x + 40, 3 * x // 5 + 30), (230, 230, 230), -1)
    assert cv2.imwrite(str(path), pixels)
    return path


@pytest.fixture
def image(tmp_path) -> Path:
    return scene(tmp_path / "scene.png", 700, 500)


def start_torchrun(port: int, *words: str) -> subprocess.Popen[str]:
    run = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    command = [*run, str(ROOT / "tools/predict.py"), *words, "--launcher", "pytorch"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def torchrun(port: int, *words: str) -> subprocess.CompletedProcess[str]:
    with start_torchrun(port, *words) as process:
        out, errors = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, errors)


@pytest.mark.slow
def test_torchrun_and_processes_write_the_bytes_of_one_process(tmp_path, image, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    words = [*MODEL, str(image), "--sizes", "256", "--gaps", "64", "--score-thr", "0.01", "--out"]
    predict = load_script("tools/predict.py").main
    assert predict([*words, str(tmp_path / "one")]) == 0
    expected = tree(tmp_path / "one")
    assert sum(data.count(b"\n") for name, data in expected.items() if name.startswith("Task1")) > 10
    done = torchrun(29537, *words, str(tmp_path / "ranks"))
    assert done.returncode == 0, done.stderr
    assert tree(tmp_path / "ranks") == expected
    again = torchrun(29538, *words, str(tmp_path / "ranks"))
    assert again.returncode == 1
    assert [line for line in again.stderr.splitlines() if line.startswith("error: ")] == [
        f"error: {tmp_path / 'ranks'} holds a finished prediction; give another folder, or --overwrite"
    ]
    assert predict([*words, str(tmp_path / "two"), "--nproc", "2"]) == 0
    assert tree(tmp_path / "two") == expected


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_and_the_same_command_again_give_the_bytes_of_one_run(tmp_path, monkeypatch, rank):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    large = scene(tmp_path / "large.png", 1600, 1400)  # 8 x 7 windows
    words = [*MODEL, str(large), "--sizes", "256", "--gaps", "64", "--score-thr", "0.01", "--out"]
    assert load_script("tools/predict.py").main([*words, str(tmp_path / "one")]) == 0
    out = tmp_path / "ranks"
    process = start_torchrun(29539 + 2 * rank, *words, str(out))
    journal = out / "patches" / "large.jsonl"
    while process.poll() is None and not (journal.exists() and journal.read_bytes().count(b"\n") > 8):
        time.sleep(0.05)
    (killed,) = [child for child in children(process.pid) if f"\0RANK={rank}\0" in environment(child)]
    os.kill(killed, signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == 1
    told = [line for line in errors.splitlines() if line.startswith("error: ")]
    if rank:  # the first one lives, and says so
        assert told == [
            "error: process 1 of the 2 that torchrun started has ended (out of memory?); what was predicted is kept: "
            "the same command goes on"
        ]
    assert 8 < journal.read_bytes().count(b"\n") < 56, "it was killed in the middle"
    again = torchrun(29540 + 2 * rank, *words, str(out))
    assert again.returncode == 0, again.stderr
    assert "of them earlier" in again.stdout
    assert tree(out) == tree(tmp_path / "one")


def children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def environment(process: int) -> str:
    return "\0" + Path(f"/proc/{process}/environ").read_text()
