"""What a comparison plans and how it runs it, without a network: which settings must agree, what is left, which GPU."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("mmcv")

from fdam_rotate.apis.compare import execute, report, worker
from fdam_rotate.apis.compare.plan import Plan, Run, Side, make_plan
from fdam_rotate.apis.compare.records import IOU_THRS, Record, Verdicts, read_records, write_record
from fdam_rotate.dota.errors import DotaError

CONFIG = """
model = dict(type='A', backbone=dict(type='B'))
data = dict(samples_per_gpu=2, train=dict(type='D', data_root='a', ann_file='x', classes=['ship']),
            val=dict(type='D', gt_dir='g', manifest='m', pipeline=[dict(type='L')]), test=dict(type='D'))
optimizer = dict(type='SGD', lr=0.1)
optimizer_config = dict(grad_clip=dict(max_norm=35))
lr_config = dict(policy='step')
runner = dict(type='IterBasedRunner', max_iters=10)
workflow = [('train', 1)]
"""


def _config(folder: Path, name: str, more: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.py"
    path.write_text(CONFIG + more)
    return path


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("optimizer_config = dict(grad_clip=None)", "optimizer_config.grad_clip"),
        ("lr_config = dict(policy='poly')", "lr_config.policy: 'step' against 'poly'"),
        ("runner = dict(type='IterBasedRunner', max_iters=11)", "runner.max_iters: 10 against 11"),
        ("fp16 = dict(loss_scale=512.)", "fp16"),
        ("custom_hooks = [dict(type='H')]", "custom_hooks"),
        ("data['samples_per_gpu'] = 3", "data.samples_per_gpu: 2 against 3"),
        ("data['train_dataloader'] = dict(persistent_workers=True)", "data.train_dataloader"),
        ("data['train']['classes'] = ['plane']", "data.train.classes"),
        ("data['val']['pipeline'] = []", "data.val.pipeline"),
    ],
)
def test_what_must_agree(change, said, tmp_path):
    first, alike = _config(tmp_path, "a"), _config(tmp_path, "c", "model['backbone']['type'] = 'C'\n")
    other = _config(tmp_path, "b", change + "\n")
    assert make_plan([first, alike], [0], []).differing == ()
    with pytest.raises(DotaError, match=r"a\.py and .*b\.py cannot be compared: they differ in") as error:
        make_plan([first, alike, other], [0], [])  # the last of several
    assert said in str(error.value)


def test_where_the_data_lie_may_differ_and_differences_are_counted(tmp_path):
    places = "data['train'].update(data_root='b', ann_file='y')\ndata['val'].update(gt_dir='h', manifest='n')\n"
    first, other = _config(tmp_path, "a"), _config(tmp_path, "b", places)
    plan = make_plan([first, other], [0], [])
    assert plan.sides[0].settings == plan.sides[1].settings
    many = "data['samples_per_gpu'] = 3\nrunner['max_iters'] = 11\nlr_config['policy'] = 'x'\nfp16 = dict()\n"
    with pytest.raises(DotaError, match=r"they differ in [^;]*; [^;]*; [^;]* and 1 more; give both the same data"):
        make_plan([first, _config(tmp_path, "c", many)], [0], [])


def test_weights_to_begin_with_are_known_by_their_bytes(tmp_path):
    for name, content in (("one", b"1"), ("two", b"1"), ("three", b"3")):
        (tmp_path / f"{name}.pth").write_bytes(content)
    a, b, c = (_config(tmp_path, n, f"load_from = {str(tmp_path / n)!r} + '.pth'\n") for n in ("one", "two", "three"))
    make_plan([a, b], [0], [])
    with pytest.raises(DotaError, match="they differ in load_from"):
        make_plan([a, c], [0], [])
    (tmp_path / "gone").mkdir()
    missing = _config(tmp_path / "gone", "c", f"load_from = {str(tmp_path / 'no.pth')!r}")
    with pytest.raises(DotaError, match=r"load_from=.*no\.pth: no such file; runs are known by the weights"):
        make_plan([missing], [0], [])


def test_two_configs_of_one_name_are_refused_and_seeds_go_by_turns(tmp_path):
    first, second = _config(tmp_path / "x", "a"), _config(tmp_path / "y", "a")
    with pytest.raises(DotaError, match="another config is called a too; rename one"):
        make_plan([first, second], [0], [])
    other = _config(tmp_path, "b")
    assert [run.name for run in make_plan([first, other], [3, 4], []).missing] == [
        "a-seed3", "b-seed3", "a-seed4", "b-seed4",
    ]  # fmt: skip
    assert [run.name for run in make_plan([first, first, first], [0, 49], []).missing] == [
        "a-seed0", "a-again-seed50", "a-again2-seed100", "a-seed49", "a-again-seed99", "a-again2-seed149",
    ]  # fmt: skip


def _record(side: Side, seed: int, *, val: str = "v", score: float = 0.5, **more) -> Record:
    verdicts = Verdicts(
        "voc12", IOU_THRS, ("p", "q"), {"ship": (np.arange(2), np.ones((10, 2), np.int8), np.ones(2, np.int64))}
    )
    values = dict(
        name=side.name, seed=seed, settings=side.settings, config_text="", machine={"device": "CPU, x"},
        data={"train": {"sha256": "t"}, "val": {"sha256": val}},
        training={"steps": 10, "seconds_per_step": 2.0, "cpu_seconds_per_step": 1.0},
        cost={"parameters": 1, "multiply_adds": 1.0, "seconds_per_window": 1.0, "cpu_seconds_per_window": 0.5},
        scores={name: score for name in report.SCORES}, verdicts=verdicts, protocol=2,
    )  # fmt: skip
    return Record(**{**values, **more})


def test_records_must_be_of_the_same_data_and_rule(tmp_path):
    configs = [_config(tmp_path, "a"), _config(tmp_path, "b", "model['backbone']['type'] = 'C'\n")]
    first, second = make_plan(configs, [0], []).sides
    folder = tmp_path / "records"
    write_record(folder / "a.json", _record(first, 0))
    for changes, said in (
        (dict(val="w"), "are of different val data"),
        (dict(protocol=1), "different rules of drawing"),
    ):
        write_record(folder / "b.json", _record(second, 0, **changes))
        with pytest.raises(DotaError, match=said):
            make_plan(configs, [0], [folder])
    write_record(folder / "b.json", _record(second, 0))
    assert list(make_plan(configs, [0], [folder]).records) == ["a-seed0", "b-seed0"]


def test_of_two_records_of_a_run_that_of_the_first_folder_counts(tmp_path):
    side = Side("a", Path("a.py"), (0,), "s", {})
    for name, score in (("x", 0.25), ("y", 0.75)):
        write_record(tmp_path / name / "a.json", _record(side, 0, score=score))
    (found,) = read_records([tmp_path / "y", tmp_path / "x"]).values()
    assert found.scores["AP50"] == 0.75
    content = json.loads((tmp_path / "x/a.json").read_text())
    del content["protocol"]
    (tmp_path / "x/a.json").write_text(json.dumps(content))
    (found,) = read_records([tmp_path / "x"]).values()
    assert found.protocol == 1, "of before records said theirs"
    assert IOU_THRS == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
    assert report.SCORES == {"AP50": (0.5,), "AP75": (0.75,), "AP50:95": IOU_THRS}


def _plan(tmp_path, count: int = 3, records: dict | None = None) -> Plan:
    sides = tuple(Side(name, _config(tmp_path, name), tuple(range(count)), f"settings of {name}", {}) for name in "ab")
    missing = tuple(Run(side, seed) for seed in range(count) for side in sides)
    return Plan(sides, records or {}, missing, ())


def test_runs_share_the_gpus_and_failures_are_told(tmp_path, monkeypatch):
    seen = []

    def do(run, plan, work_dir, options, gpu):
        seen.append(gpu)
        return "it broke" if run.name == "b-seed1" else None

    monkeypatch.setattr(execute, "_do", do)
    plan = _plan(tmp_path)
    assert [(run.name, said) for run, said in execute.execute(plan, tmp_path, {}, jobs=1, gpus=0)] == [
        ("b-seed1", "it broke")
    ]
    assert seen == [None] * 6
    seen.clear()
    barrier = threading.Barrier(2)
    monkeypatch.setattr(execute, "_do", lambda *arguments: barrier.wait(20) * 0 or do(*arguments))
    execute.execute(plan, tmp_path, {}, jobs=2, gpus=2)
    assert sorted(seen) == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("visible", "gpu", "expected"), [("4,7", 1, "7"), ("", 1, "1"), (None, 0, "0"), ("4,7", None, "4,7")]
)
def test_a_run_sees_its_own_gpu(visible, gpu, expected, tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    given = {}
    monkeypatch.setattr(
        execute.subprocess, "run", lambda command, env, **_: given.update(env) or SimpleNamespace(returncode=3)
    )
    assert execute._worker(tmp_path, gpu) == 3
    assert given["CUDA_VISIBLE_DEVICES"] == expected
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == visible


def test_an_estimate_is_of_the_steps_that_are_left(tmp_path, monkeypatch):
    tried = []
    monkeypatch.setattr(execute, "_try", lambda run, plan, options: tried.append(run.name) or 4.0)
    done = _record(Side("a", Path(), (), "settings of a", {}), 9)
    plan = _plan(tmp_path, 2, {"a-seed9": done})
    log = tmp_path / "work" / "runs" / "a-seed1" / "steps.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text("[1, 0.5, 1, 1]\n[2, 0.5, 1, 1]\n[2, 0.4, 1, 1]\n[3, 0.5")
    found = execute.estimate(plan, tmp_path / "work", {"runner.max_iters": 7200})
    assert [(item.run.name, item.steps, item.seconds_per_step) for item in found] == [
        ("a-seed0", 7200, 2.0), ("b-seed0", 7200, 4.0), ("a-seed1", 7198, 2.0), ("b-seed1", 7200, 4.0),
    ]  # fmt: skip
    assert found[0].hours == 4.0
    assert tried == ["b-seed0"], "each side once, and not where a run tells"


def test_the_first_steps_of_a_trial_do_not_count(tmp_path, monkeypatch):
    def run(folder, gpu):
        assert json.loads((folder / "job.json").read_text())["trial_steps"] == 8
        rows = [[1, 1, 90, 1], [2, 1, 50, 1], [3, 1, 1, 1], [4, 1, 3, 1], [5, 1, 2, 1]]
        (folder / "steps.jsonl").write_text("".join(f"{row}\n" for row in rows))
        return 0

    monkeypatch.setattr(execute, "_worker", run)
    plan = _plan(tmp_path)
    assert execute._try(plan.missing[0], plan, {}) == 2


@pytest.mark.parametrize(
    ("job", "goes"),
    [(None, True), ('{"settings": "settings of b"}', True), ('{"settings": "x"}', False), ("{}", False), ("{", False)],
)
def test_a_folder_of_another_run_is_left_alone(job, goes, tmp_path, monkeypatch):
    plan = _plan(tmp_path)
    run = plan.missing[1]
    folder = tmp_path / "work/runs" / run.name
    folder.mkdir(parents=True)
    if job is not None:
        (folder / "job.json").write_text(job)
    (folder / "output.txt").write_text("said\n")
    monkeypatch.setattr(execute, "_worker", lambda *_: 0)
    said = execute._do(run, plan, tmp_path / "work", {"a": 1}, None)
    assert (said is None) == goes
    if goes:
        written = json.loads((folder / "job.json").read_text())
        assert (written["config"], written["reference"]) == (str(plan.sides[1].path), str(plan.sides[0].path))
        assert (written["seed"], written["options"], written["trial_steps"]) == (0, {"a": 1}, None)


def test_steps_of_a_run_that_was_killed(tmp_path):
    path = tmp_path / "steps.jsonl"
    path.write_text("[1, 0.5, 1, 2]\n[3, 0.3, 1, 2]\n[2, 0.9, 1, 2]\n[3, 0.25, 7, 8]\n[4, 0.\n")
    assert worker.read_steps(path) == [(1, 0.5, 1, 2), (2, 0.9, 1, 2), (3, 0.25, 7, 8)]
    assert worker._curve([1.0, 2.0, 6.0], points=2) == [(2, 1.5), (3, 6.0)]
    assert worker._curve([1.0] * 250) == [(k, 1.0) for k in [*range(3, 250, 3), 250]]


def test_data_are_known_by_sizes_of_images_and_whole_image_labels(tmp_path):
    import cv2

    for folder in ("images", "annfiles", "labelTxt"):
        (tmp_path / folder).mkdir()
    image = tmp_path / "images" / "a.png"
    assert cv2.imwrite(str(image), np.zeros((4, 6, 3), np.uint8))
    (tmp_path / "annfiles/a.txt").write_text("x")
    part = {"data_root": str(tmp_path), "ann_file": "annfiles", "img_prefix": "images"}
    part["gt_dir"] = str(tmp_path / "labelTxt")
    first = worker.data_identity(part)
    assert first["images"] == 1
    assert cv2.imwrite(str(image), np.full((4, 6, 3), 9, np.uint8))
    assert worker.data_identity(part) == first
    assert cv2.imwrite(str(image), np.zeros((6, 4, 3), np.uint8))
    second = worker.data_identity(part)
    (tmp_path / "labelTxt/a.txt").write_text("y")
    third = worker.data_identity(part)
    assert len({one["sha256"] for one in (first, second, third)}) == 3


def test_data_with_a_list_of_images_are_known_by_it_and_their_xml(tmp_path):
    for name, text in (("train.txt", "a"), ("xml/a.xml", "x"), ("xml/b.xml", "x"), ("images/a.png", "")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    part = {"ann_file": str(tmp_path / "train.txt"), "ann_dir": str(tmp_path / "xml"), "img_prefix": str(tmp_path)}
    seen = {worker.data_identity(part)["sha256"]}
    for name in ("train.txt", "xml/b.xml"):
        (tmp_path / name).write_text("b")
        seen.add(worker.data_identity(part)["sha256"])
    assert len(seen) == 3


def test_how_far_fdam_was_switched_on(tmp_path):
    torch = pytest.importorskip("torch")
    from fdam_rotate.apis.checkpoints.checkpoint import save_checkpoint_file

    state = {"b.lf_gamma": torch.tensor([0.125, -0.5]), "b.weight": torch.ones(2)}
    save_checkpoint_file(tmp_path / "w.safetensors", state)
    assert worker._switches(tmp_path / "w.safetensors") == {"b.lf_gamma": 0.5}


def test_start_weights_are_those_that_the_reference_begins_with(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    from mmcv import Config

    from fdam_rotate.apis.checkpoints.checkpoint import save_checkpoint_file

    save_checkpoint_file(tmp_path / "w.safetensors", {"a": torch.full((1,), 9.0), "c": torch.zeros(5)})
    starts = {"own": {"a": torch.ones(1), "b": torch.ones(1), "c": torch.ones(1)}, "reference": {"a": torch.zeros(1)}}
    monkeypatch.setattr(worker, "_initial", lambda cfg, seed: dict(starts[cfg["name"]]))
    own = Config({"name": "own"})
    plain = worker.start_weights(own, Config({"name": "reference"}), 0)
    assert [plain[key].item() for key in "abc"] == [0, 1, 1]
    loaded = worker.start_weights(own, Config({"name": "reference", "load_from": str(tmp_path / "w.safetensors")}), 0)
    assert [loaded[key].item() for key in "abc"] == [9, 1, 1]


def test_the_report_holds_every_side_and_the_largest_difference():
    sides = tuple(Side(name, Path(f"{name}.py"), (0, 1), f"s{name}", {}) for name in "abc")
    records = {
        f"{side.name}-seed{seed}": _record(side, seed, score=0.25 + 0.25 * seed) for side in sides for seed in (0, 1)
    }
    values = report.summarise(Plan(sides, records, (), ()), "c", resamples=5)
    assert [(one["first"], one["second"]) for one in values["differences"]] == [("a", "b"), ("a", "c")]
    assert [one["name"] for one in values["against_itself"]] == ["a", "b", "c"]
    for one in values["differences"]:
        assert {"AP50_by_class", "AP75_by_class"} <= set(one)
    assert values["sides"][0]["AP50"] == {"mean": 0.375, "spread": pytest.approx(0.125 * 2**0.5), "values": [0.25, 0.5]}
    assert (values["sides"][0]["seconds_per_step"], values["sides"][0]["seconds_per_window"]) == (1.0, 0.5)
    gain = {"low": -0.1, "high": 0.1, "clear": False}
    values["against_itself"][0]["AP50"] = [{"value": 0.02, **gain}, {"value": -0.05, **gain}]
    assert "| a | 1 | 0 | -5.0 (-10.0 to +10.0) |" in report.to_markdown(values)
    few = [_record(sides[0], seed) for seed in range(8)]
    assert report.against_itself(few, resamples=2)["splits"] == 20, "of 35 ways"
