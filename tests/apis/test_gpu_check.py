"""The check of a GPU, rehearsed on the CPU: it runs, its faults are seen and told, it keeps to its time."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import json
import math
import re
import subprocess
import sys
import time
from importlib.metadata import packages_distributions

import pytest
import torch
from scripts import ROOT, load_script

from fdam_rotate.apis.gpu_check import (
    cost,
    detectors,
    networks,
    operations,
    plan,
    precision,
    prediction,
    processes,
    scenes,
    supervise,
    worker,
)
from fdam_rotate.apis.gpu_check.sheet import STATES, Row, Sheet, read_rows
from fdam_rotate.models import backbones, necks

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
TINY = dataclasses.replace(plan.REHEARSAL, boxes=40, steps=2, scene=160, window=96)


@pytest.fixture
def sheet(tmp_path):
    return Sheet("a part", tmp_path / "rows.jsonl")


def rows_of(tmp_path):
    return {row.what: row for row in read_rows(tmp_path / "rows.jsonl")}


def numbers(table: str) -> list[tuple[str, str, str]]:
    """What, value and limit of each row of the tables of a Markdown file."""
    rows = [line.strip("|").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    return [(row[0].strip(), row[1].strip(), row[2].strip()) for row in rows if row[0].strip() != "what"]


# ---- rows


def test_rows_are_judged_and_kept(sheet, tmp_path):
    sheet.check("below", 1.0, 2.0, "ms")
    sheet.check("equal", 2, 2)
    sheet.check("above", 2.5, 2.0)
    sheet.check("nan", math.nan, 2.0)
    sheet.measure("name", "NVIDIA", note="of it")
    sheet.skip("no", "no GPU")
    with sheet.case("error"):
        raise RuntimeError("CUDA error\nsecond line")
    rows = rows_of(tmp_path)
    states = {what: row.state for what, row in rows.items()}
    assert states == {
        "below": "right", "equal": "right", "above": "wrong", "nan": "wrong", "name": "measured", "no": "skipped",
        "error": "failed",
    }  # fmt: skip
    assert set(states.values()) == set(STATES)
    assert rows["below"] == Row("a part", "below", "right", 1.0, "ms", 2.0, "")
    assert rows["nan"].value == "nan"
    assert rows["error"].note == "RuntimeError: CUDA error"
    assert [what for what, row in rows.items() if row.bad] == ["above", "nan", "error"]
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"part": "half')
    assert len(read_rows(tmp_path / "rows.jsonl")) == 7
    assert read_rows(tmp_path / "none") == []


def test_an_interrupt_is_no_row(sheet):
    with pytest.raises(KeyboardInterrupt), sheet.case("a"):
        raise KeyboardInterrupt


def test_time_left(tmp_path):
    assert Sheet("a", tmp_path / "rows", 10.0, lambda: 7.5).time_left() == 2.5
    assert Sheet("a", tmp_path / "rows").time_left() == math.inf


# ---- the parts in their order and time


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def run_with(takes, tmp_path, *, fails=(), device="cuda"):
    """Run parts of 10 seconds each that take so long, or are stopped when they are due."""
    clock, seen = Clock(), {}

    def execute(job, log, due):
        seen[job.part] = due - 100.0
        assert job.deadline == due
        clock.now = min(due, clock.now + takes[job.part])
        if job.part in fails:
            return "it broke"
        if clock.now == due:
            return "stopped"
        Sheet(job.part, supervise.Path(job.rows)).check("found", 1.25, 2.0, "ms", "a | note")
        return None

    parts = [plan.Part(name, 10, f"part {name}") for name in takes]
    report = supervise.supervise(tmp_path, tmp_path, "c", device=device, parts=parts, clock=clock, execute=execute)
    return report, seen, clock.now - 100.0


def test_each_part_may_take_its_time_and_what_was_left(tmp_path):
    report, due, whole = run_with({"a": 2.0, "b": 15.0, "c": 1.0}, tmp_path)
    assert due == {"a": 10.0, "b": 20.0, "c": 30.0}
    assert [row.state for row in report.rows] == ["right"] * 3
    assert report.seconds == {"a": 2.0, "b": 15.0, "c": 1.0, "all": 18.0}
    assert whole == 18.0


def test_all_together_keep_to_the_sum_whatever_happens(tmp_path):
    report, due, whole = run_with({"a": 99.0, "b": 99.0, "c": 99.0}, tmp_path)
    assert due == {"a": 10.0, "b": 20.0, "c": 30.0}
    assert whole == 30.0
    assert [(row.state, row.note) for row in report.rows] == [("failed", "stopped")] * 3


def test_a_failure_is_told_and_the_rest_goes_on(tmp_path):
    report, due, _ = run_with({"a": 1.0, "b": 1.0, "c": 1.0}, tmp_path, fails=["b"], device="cpu")
    assert due == {"a": 100.0, "b": 200.0, "c": 300.0}
    assert [(row.part, row.what, row.state) for row in report.rows] == [
        ("a", "found", "right"), ("b", "the whole part", "failed"), ("c", "found", "right"),
    ]  # fmt: skip
    text = (tmp_path / "gpu_check.md").read_text()
    assert "- b: the whole part: it broke" in text.partition("## a")[0]
    assert "Rehearsal on cpu" in text
    assert "3 rows: 2 right, 1 failed; 3 s" in text


def test_the_table_says_what_is_wrong_and_its_cells_stay_cells(tmp_path):
    def execute(job, log, due):
        sheet = Sheet(job.part, supervise.Path(job.rows))
        sheet.check("above", 2.5, 2.0, "ms", "a | note")
        sheet.check("below", 1.0, 2.0, "ms")
        return None

    supervise.supervise(tmp_path, tmp_path, "c", parts=[plan.Part("a", 10, "part a")], execute=execute)
    text = (tmp_path / "gpu_check.md").read_text()
    assert "\n- a: above: 2.5 ms, at most 2 is right (a | note)\n" in text
    assert "- a: below" not in text
    assert "| above | 2.5 ms | 2 | wrong | a \\| note |" in text
    assert "earsal" not in text


def test_a_part_that_says_nothing_has_failed(tmp_path):
    report = supervise.supervise(tmp_path, tmp_path, "c", parts=plan.PARTS[:1], execute=lambda *_: None)
    assert [(row.what, row.state, row.note) for row in report.rows] == [
        ("the whole part", "failed", "it ended without a word")
    ]


def test_the_report_is_there_after_each_part(tmp_path):
    def execute(job, log, due):
        if job.part == "b":
            assert [row["part"] for row in json.loads((tmp_path / "gpu_check.json").read_text())["rows"]] == ["a"]
            raise KeyboardInterrupt
        return "it broke"

    parts = [plan.Part(name, 10, "") for name in "ab"]
    with pytest.raises(KeyboardInterrupt):
        supervise.supervise(tmp_path, tmp_path, "c", parts=parts, execute=execute)
    assert "- a: the whole part: it broke" in (tmp_path / "gpu_check.md").read_text()


def test_the_plan_keeps_to_eight_minutes_and_names_modules():
    assert sum(part.seconds for part in plan.PARTS) <= 470  # the rest of 480 starts Python and ends what is stopped
    assert len({part.name for part in plan.PARTS}) == len(plan.PARTS)
    for part in plan.PARTS:
        assert callable(importlib.import_module(f"fdam_rotate.apis.gpu_check.{part.name}").run)


def test_the_plans_sizes_are_those_of_what_it_names():
    """LSKNet-S and Oriented R-CNN as the shipped config has them, and as many steps as the plan says."""
    from fdam_rotate.apis.compat import load_config

    cfg = load_config(ROOT / "configs" / detectors.DETECTORS["Oriented R-CNN"])
    full, model = plan.FULL, cfg.model
    assert [list(full.widths), list(full.depths)] == [model.backbone.embed_dims, model.backbone.depths]
    assert (full.proposals, full.hidden) == (
        model.test_cfg.rpn.max_per_img, model.roi_head.bbox_head.fc_out_channels,
    )  # fmt: skip
    assert (full.window, full.window) == cfg.data.test.pipeline[1].img_scale
    (what,) = (part.what for part in plan.PARTS if part.name == "precision")
    assert what.startswith(f"{full.steps} steps in float32")


def job_of(tmp_path, part, **changes):
    settings = {
        "device": "cpu", "rehearsal": True, "rows": str(tmp_path / "rows.jsonl"), "deadline": time.monotonic() + 600,
        "configs": str(ROOT / "configs"), "scratch": str(tmp_path),
    }  # fmt: skip
    return worker.Job(part, **{**settings, **changes})


def test_a_process_that_takes_too_long_is_ended(tmp_path):
    wrong = supervise._run_process(job_of(tmp_path, "machine"), tmp_path / "log", time.monotonic() + 0.3)
    assert wrong.startswith("stopped after 0 s, which is all that it may take")
    assert subprocess.run(["pgrep", "-f", f"{tmp_path}/job.json"], check=False).returncode == 1


def test_a_process_of_its_own_finds_rows_or_says_its_last_line(tmp_path):
    due = time.monotonic() + 600
    assert supervise._run_process(job_of(tmp_path, "machine"), tmp_path / "log", due) is None
    rows = rows_of(tmp_path)
    assert rows["torch"].value.startswith(torch.__version__.partition("+")[0])
    assert rows["the GPU"].state == "skipped"
    wrong = supervise._run_process(job_of(tmp_path, "machine", device="meta:x"), tmp_path / "log", due)
    assert wrong.startswith("its process ended with code 1: RuntimeError: ")
    assert (tmp_path / "log").read_text().count("== machine\n") == 2


def test_a_rehearsal_sees_no_gpu_whatever_there_is(tmp_path, monkeypatch):
    seen = []

    def start(command, env, **_):
        seen.append(env.get("CUDA_VISIBLE_DEVICES"))
        raise KeyboardInterrupt

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setattr(supervise.subprocess, "Popen", start)
    for device in ("cpu", "cuda"):
        with pytest.raises(KeyboardInterrupt):
            supervise._run_process(job_of(tmp_path, "machine", device=device), tmp_path / "log", time.monotonic() + 9)
    assert seen == ["", "3"]


def test_a_part_gets_its_sizes_its_deadline_and_a_mended_host(tmp_path, monkeypatch):
    from fdam_rotate.host import fixes

    seen, mended = [], []
    monkeypatch.setattr(fixes, "mend_host", lambda: mended.append(None))
    monkeypatch.setattr(operations, "run", lambda sheet, device, sizes: seen.append((sizes, sheet.time_left())))
    for rehearsal in (True, False):
        worker.perform(job_of(tmp_path, "operations", rehearsal=rehearsal))
    assert [sizes for sizes, _ in seen] == [plan.REHEARSAL, plan.FULL]
    assert all(0 < left <= 600 for _, left in seen)
    assert len(mended) == 2


def test_an_error_of_a_part_is_a_row(tmp_path, monkeypatch):
    def run(sheet, device, sizes):
        sheet.measure("before", 1.0)
        raise ValueError("no such thing")

    monkeypatch.setattr(operations, "run", run)
    worker.perform(job_of(tmp_path, "operations"))
    assert rows_of(tmp_path)["before"].value == 1.0
    assert rows_of(tmp_path)["the whole part"].note == "ValueError: no such thing"


# ---- the parts, rehearsed


def test_operations(sheet, tmp_path):
    operations.run(sheet, CPU, TINY)
    rows = rows_of(tmp_path)
    assert [row for row in rows.values() if row.state != "right"] == []
    assert {re.split(",| [0-9]", what)[0] for what in rows} == {
        "values worked out by hand", "box_iou_rotated", "nms_rotated", "nms", "RoIAlignRotated", "deform_conv2d",
        "rotated_feature_align", "diff_iou_rotated_2d", "focal loss",
    }  # fmt: skip
    kept = int(re.search(r"(\d+) kept", rows["nms_rotated"].note)[1])
    assert 0 < kept < TINY.boxes


def test_many_of_the_boxes_are_suppressed(sheet, tmp_path):
    operations._suppression(sheet, CPU, dataclasses.replace(TINY, boxes=800))
    rows = rows_of(tmp_path)
    assert {row.state for row in rows.values()} == {"right"}
    assert 40 < int(re.search(r"(\d+) kept", rows["nms_rotated"].note)[1]) < 500, "spread out, nearly all would stay"


def every_second(function, change):
    """``function``, its result changed at every second call: the first of a pair, the device's, or the second."""
    calls = []

    def call(*arguments, **named):
        calls.append(None)
        out = function(*arguments, **named)
        return change(out) if len(calls) % 2 == 0 else out

    return call


def test_wrong_operations_are_seen(sheet, tmp_path, monkeypatch):
    import mmcv.ops

    changes = {
        "box_iou_rotated": lambda out: out * 1.01,
        "nms_rotated": lambda out: (out[0][1:], out[1][1:]),
        "nms": lambda out: (out[0][1:], out[1][1:]),
        "deform_conv2d": lambda out: out.flip(0),
        "rotated_feature_align": lambda out: out.roll(1, -1),
        "diff_iou_rotated_2d": lambda out: out**2,
    }
    for name, change in changes.items():
        monkeypatch.setattr(mmcv.ops, name, every_second(getattr(mmcv.ops, name), change))
    # boxes near the threshold are looked for with box_iou_rotated, whose wrong values would shift the pairs
    monkeypatch.setattr(operations, "_apart", lambda boxes, iou: boxes)
    for check in (operations._overlaps, operations._suppression, operations._features, operations._losses):
        check(sheet, CPU, TINY)
    wrong = {what.partition(",")[0] for what, row in rows_of(tmp_path).items() if row.state == "wrong"}
    assert wrong == set(changes)


def test_boxes_lie_as_they_say():
    boxes = operations.random_boxes(5000, 0)
    low, high = boxes.amin(0), boxes.amax(0)
    assert torch.all(low > torch.tensor([-1e-3, -1e-3, 7.99, 7.99, -math.pi / 2]))
    assert torch.all(high < torch.tensor([1024.1, 1024.1, 128.1, 128.1, math.pi / 2]))
    assert torch.all(low < torch.tensor([20, 20, 8.1, 8.1, -1.5]))
    assert torch.all(high > torch.tensor([1000, 1000, 125, 125, 1.5]))


def test_boxes_of_which_rounding_decides_are_left_out():
    """Of four, the first two overlap by nearly the threshold; the others by far less, or far more."""
    iou = torch.eye(4)
    for a, b, value in ((0, 1, 0.3004), (2, 3, 0.9), (0, 2, 0.05)):
        iou[a, b] = iou[b, a] = value
    assert operations._apart(torch.arange(4), lambda *_: iou).tolist() == [2, 3]


def test_gradients_are_weighted_place_by_place():
    """A plain sum has the same gradient whatever way round the values are."""
    _, (found,) = operations._with_gradients(lambda x: x.flip(0), [torch.arange(3.0)], "cpu")
    assert found.tolist() == [1.5, 1.0, 0.5]


def test_the_worst_is_nan_wherever_it_stands():
    for errors in ([math.nan, 1.0, 2.0], [1.0, math.nan, 2.0], [1.0, 2.0, math.nan]):
        assert math.isnan(operations.worst(errors))
    assert operations.worst([1.0, 3.0, 2.0]) == 3.0


def test_roi_align_is_called_as_the_heads_call_it(sheet, tmp_path, monkeypatch):
    """With the config's settings, on maps in both layouts; few bits that are too far off are seen."""
    import mmcv.ops

    from fdam_rotate.apis.compat import load_config

    layers, layouts = [], []

    class Coarse(mmcv.ops.RoIAlignRotated):
        def __init__(self, *arguments, **settings):
            super().__init__(*arguments, **settings)
            layers.append(self)

        def forward(self, maps, rois):
            if maps.dtype == torch.float32:
                layouts.append(maps.is_contiguous(memory_format=torch.channels_last))
            return super().forward(maps, rois) * (1.05 if maps.dtype == torch.bfloat16 else 1)

    monkeypatch.setattr(mmcv.ops, "RoIAlignRotated", Coarse)
    operations._align(sheet, CPU, TINY)
    cfg = load_config(ROOT / "configs" / detectors.DETECTORS["Oriented R-CNN"])
    extractor = cfg.model.roi_head.bbox_roi_extractor
    own = extractor.roi_layer
    (layer,) = layers
    assert (layer.output_size, layer.sampling_ratio) == ((own.out_size, own.out_size), own.sample_num)
    assert (layer.clockwise, layer.spatial_scale) == (own.clockwise, 1 / extractor.featmap_strides[0])
    assert layouts[:4] == [False, False, True, True]
    assert {what for what, row in rows_of(tmp_path).items() if row.bad} == {"RoIAlignRotated, bfloat16"}


def test_a_value_that_is_not_the_one_by_hand_is_wrong(sheet, tmp_path, monkeypatch):
    monkeypatch.setattr(operations, "check_ops", lambda device: ["nms_rotated: 1, expected 2"])
    for name in ("_overlaps", "_suppression", "_align", "_features", "_losses"):
        monkeypatch.setattr(operations, name, lambda *_: None)
    operations.run(sheet, CPU, TINY)
    (row,) = rows_of(tmp_path).values()
    assert (row.state, row.value, row.note) == ("wrong", 1, "nms_rotated: 1, expected 2")


def test_relative_error():
    expected = torch.tensor([1.0, -4.0])
    assert operations.relative_error(torch.tensor([1.0, -4.4]), expected) == pytest.approx(0.1)
    assert operations.relative_error(expected, expected) == 0
    assert math.isnan(operations.relative_error(torch.tensor([1.0, math.nan]), expected))
    assert math.isnan(operations.relative_error(torch.tensor([1.0]), expected))
    assert operations.relative_error(torch.empty(0), torch.empty(0)) == 0


def test_every_backbone_and_neck(sheet, tmp_path):
    names = {case.kind.__name__ for case in networks.cases(TINY)}
    assert names == {*backbones.__all__, *necks.__all__}
    networks.run(sheet, CPU, TINY)
    rows = rows_of(tmp_path)
    assert [row for row in rows.values() if row.state != "right"] == []
    assert set(rows) == {f"{case.name}, {way}" for case in networks.cases(TINY) for way in ("forward", "backward")}
    full = {case.name: case for case in networks.cases(plan.FULL)}
    assert full["LSKNet"].settings["embed_dims"] == (64, 128, 320, 512)
    assert full["ViTFDAM"].settings == {"arch": "small"}


def test_networks_run_in_each_form_and_place():
    cases = {case.name: case for case in networks.cases(TINY)}
    told = {name: case.on_gpu for name, case in cases.items() if case.on_gpu}
    assert told == {
        "LSKNet, channels last": {"channels_last": True}, "LSKNetFDAM, channels last": {"channels_last": True},
        "LSKNetFDAM, recomputing": {"with_cp": True},
    }  # fmt: skip
    places = [cases[f"FDAMFPN, {place}"].settings["freq_place"] for place in ("lateral", "fused", "output")]
    assert places == ["lateral", "fused", "output"]


def test_fdam_is_moved_away_from_where_it_does_nothing():
    torch.manual_seed(0)
    model = backbones.LSKNetFDAM(embed_dims=TINY.widths, depths=TINY.depths)
    networks.move_fdam(model)
    found = dict(model.named_parameters())
    gammas = torch.cat([value.flatten() for name, value in found.items() if name.endswith("f_gamma")])
    filters = torch.cat([value.flatten() for name, value in found.items() if name.endswith("complex_weights")])
    assert abs(gammas.mean() - 0.5) < 0.1
    assert abs(filters.std() - 0.3) < 0.05
    scales = [value for name, value in found.items() if name.endswith(("layer_scale_1", "layer_scale_2"))]
    assert all((value == 0.5).all() for value in scales)


@pytest.mark.parametrize(
    ("off", "state"), [((1e-3, 4e-3), ["right", "right"]), ((3e-3, 6e-3), ["wrong", "wrong"])], ids=["near", "far"]
)
def test_how_far_networks_may_be_off(sheet, tmp_path, monkeypatch, off, state):
    values = torch.tensor([1.0, -4.0])  # the largest is 4, the length of both as a gradient is 17 ** 0.5
    results = [
        ([values], {"a": values}),
        ([values + torch.tensor([4 * off[0], 0])], {"a": values + torch.tensor([17**0.5 * off[1], 0])}),
    ]
    monkeypatch.setattr(networks, "_run", lambda *_: results.pop(0))
    networks._compare(sheet, next(networks.cases(TINY)), CPU)
    assert [row.state for row in rows_of(tmp_path).values()] == state


def test_wrong_networks_are_seen(sheet, tmp_path, monkeypatch):
    first = next(networks.cases(TINY))
    settings = {"frozen": {"frozen_stages": 1}, "normed": {"norm_eval": True}, "shapes": {"mlp_ratios": (2, 2, 2, 2)}}
    cases = [dataclasses.replace(first, name=name, on_gpu=changed) for name, changed in settings.items()]
    monkeypatch.setattr(networks, "cases", lambda sizes: iter(cases))
    networks.run(sheet, CPU, TINY)
    rows = rows_of(tmp_path)
    assert rows["frozen, backward"].note.startswith("only one of both has a gradient for patch_embed1")
    assert (rows["normed, forward"].state, rows["normed, backward"].state) == ("wrong", "wrong")
    assert rows["shapes"].note.startswith("RuntimeError: Error(s) in loading state_dict")


def test_tf32_is_off_inside_only():
    def inside():
        with networks.without_tf32():
            assert not torch.backends.cudnn.allow_tf32
            assert not torch.backends.cuda.matmul.allow_tf32
            raise KeyError

    places = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [place.allow_tf32 for place in places]
    try:
        for place in places:
            place.allow_tf32 = True
        with pytest.raises(KeyError):
            inside()
        assert all(place.allow_tf32 for place in places)
    finally:
        for place, allowed in zip(places, before, strict=True):
            place.allow_tf32 = allowed


def test_every_detector(sheet, tmp_path):
    kinds = {path.split("/")[0] for path in detectors.DETECTORS.values()}
    folders = {path.name for path in (ROOT / "configs").iterdir() if path.is_dir()}
    # the rest has other backbones, which are networks here, or other settings of these detectors
    assert folders - kinds == {"_base_", "demo", "evidence", "released", "lsknet", "mit_fdam", "vit_fdam"}
    detectors.run(sheet, CPU, TINY, ROOT / "configs")
    rows = rows_of(tmp_path)
    assert [row for row in rows.values() if row.state != "right"] == []
    whats = {
        f"{name}, {what}" for name in detectors.DETECTORS for what in ("loss", "length of the gradient", "prediction")
    }
    assert set(rows) == whats
    assert all(row.value == 0 for row in rows.values())


def test_a_wrong_detector_is_seen(sheet, tmp_path, monkeypatch):
    from mmrotate.models import OrientedRCNN

    losses = every_second(OrientedRCNN._parse_losses, lambda out: (out[0] * 1.2, out[1]))
    monkeypatch.setattr(OrientedRCNN, "_parse_losses", lambda self, found: losses(self, found))
    monkeypatch.setattr(detectors, "DETECTORS", {"one": detectors.DETECTORS["Oriented R-CNN"]})
    detectors.run(sheet, CPU, TINY, ROOT / "configs")
    assert {what: row.state for what, row in rows_of(tmp_path).items()} == {
        "one, loss": "wrong", "one, length of the gradient": "wrong", "one, prediction": "right",
    }  # fmt: skip


class Losses(torch.nn.Module):
    """A detector whose loss is as often its only weight, call by call."""

    def __init__(self, *factors):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(2.0))
        Losses.factors = list(factors)

    def forward_train(self, images, metas, boxes, labels):
        return self.weight * Losses.factors.pop(0)

    def _parse_losses(self, found):
        return found, {}

    def simple_test(self, images, metas, rescale):
        return [[torch.zeros(3, 6).numpy()]]


@pytest.mark.parametrize(
    ("factor", "states"),
    [(1.01, "right right"), (0.95, "wrong right"), (1.05, "wrong right"), (0.85, "wrong wrong"), (1.15, "wrong wrong")],
)
def test_how_far_detectors_may_be_off(sheet, tmp_path, factor, states):
    detectors._compare(sheet, "one", Losses(factor, 1.0), CPU, 64)
    rows = rows_of(tmp_path)
    assert [rows["one, loss"].state, rows["one, length of the gradient"].state] == states.split()
    assert rows["one, prediction"].note == "3 boxes"


def test_detectors_are_fitted_and_see_all():
    """Never more than the config has: 2,000 boxes, samplers of 256 and 512."""
    from fdam_rotate.apis.compat import load_config

    shipped = load_config(ROOT / "configs" / detectors.DETECTORS["Oriented R-CNN"])

    def config():
        return copy.deepcopy(shipped)

    def numbers(cfg):
        train, test = cfg.model.train_cfg, cfg.model.test_cfg
        return (
            [train.rpn_proposal.max_per_img, test.rpn.max_per_img, test.rcnn.max_per_img],
            [train.rpn.sampler.num, train.rcnn.sampler.num],
            cfg.model.roi_head.bbox_head.fc_out_channels,
        )

    assert numbers(config()) == ([2000, 2000, 2000], [256, 512], 1024)
    for proposals, expected in (
        (60, ([60] * 3, [30, 30])),
        (700, ([700] * 3, [256, 350])),
        (9000, ([2000] * 3, [256, 512])),
    ):
        cfg = config()
        detectors.fit(cfg, dataclasses.replace(TINY, proposals=proposals, hidden=48))
        assert numbers(cfg) == (*expected, 48)
    backbone = cfg.model.backbone
    assert (backbone.drop_rate, backbone.drop_path_rate, backbone.init_cfg) == (0, 0, None)
    detectors._see_all(cfg.model)
    assert min(numbers(cfg)[1]) >= 9 * 64 * 64, "more than there are anchors"
    assert cfg.model.test_cfg.rcnn.score_thr < 1 / 16, "less than what 15 classes and the background share"
    cfg = config()
    detectors.fit(cfg, TINY)
    first = detectors.build(cfg).state_dict()
    torch.rand(3)
    second = detectors.build(cfg).state_dict()
    assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_every_detector_is_narrow_and_sees_all(sheet, monkeypatch):
    seen = []
    monkeypatch.setattr(detectors, "build", lambda cfg: cfg)
    monkeypatch.setattr(detectors, "_compare", lambda sheet, name, cfg, *_: seen.append((name, cfg.model)))
    detectors.run(sheet, CPU, TINY, ROOT / "configs")
    assert [name for name, _ in seen] == list(detectors.DETECTORS)
    assert all(model.backbone.embed_dims == [16, 32, 80, 128] for _, model in seen)
    samplers = [model.train_cfg.rcnn.sampler.num for name, model in seen if name.startswith("Oriented")]
    assert samplers == [10**6] * 2


def test_scenes_have_their_boxes_where_they_say():
    image, boxes, labels = scenes.scene(128, 3)
    assert len(boxes) == len(labels) == 6
    assert (boxes[:, 2] > boxes[:, 3]).all(), "the longer side comes first"
    for x, y in boxes[:, :2].round().astype(int):
        assert (image[y, x] == 220).all()
    assert (image == 220).mean() < 0.5
    images, found, _ = scenes.batch(128, 1, 2)
    assert torch.equal(found[1], torch.tensor(boxes, dtype=torch.float32))
    assert torch.allclose(images[1].permute(1, 2, 0) * 58 + 110, torch.tensor(image).float(), atol=1e-3)


def test_three_precisions(sheet, tmp_path):
    precision.run(sheet, CPU, TINY, ROOT / "configs")
    rows = rows_of(tmp_path)
    assert [row for row in rows.values() if row.state not in ("right", "measured")] == []
    assert set(rows) == {
        "float32, 2 steps", "float32, loss", "float16, 2 steps", "float16, steps without an update",
        "float16, loss beside float32", "bfloat16, 2 steps", "bfloat16, loss beside float32",
    }  # fmt: skip
    assert 0 < rows["bfloat16, loss beside float32"].value
    assert 0 < rows["float16, loss beside float32"].value


def test_losses_that_go_astray_are_seen(sheet, tmp_path, monkeypatch):
    found = {
        (None, False): ([2.0, 1.0], 0),
        (torch.bfloat16, True): ([2.0, math.inf], 4),
        (torch.bfloat16, False): ([2.0, 1.2], 0),
    }
    monkeypatch.setattr(precision, "train_steps", lambda model, dtype, scaled, *_: found[dtype, scaled])
    precision.run(sheet, CPU, TINY, ROOT / "configs")
    rows = rows_of(tmp_path)
    assert {what for what, row in rows.items() if row.bad} == {
        "float16, 2 steps", "float16, steps without an update", "float16, loss beside float32",
        "bfloat16, loss beside float32",
    }  # fmt: skip
    assert rows["bfloat16, loss beside float32"].value == pytest.approx(0.2)
    assert rows["float16, 2 steps"].value == 1


def test_every_precision_begins_with_the_same_weights_and_ends_with_a_mean(sheet, tmp_path, monkeypatch):
    begun = []

    def train(model, *_):
        weight = next(model.parameters())
        begun.append(weight.detach().clone())
        with torch.no_grad():
            weight.add_(1)
        return [float(number) for number in range(1, 11)], 0

    monkeypatch.setattr(precision, "train_steps", train)
    precision.run(sheet, CPU, TINY, ROOT / "configs")
    assert len(begun) == 3
    assert all(torch.equal(weight, begun[0]) for weight in begun)
    row = rows_of(tmp_path)["float32, loss"]
    assert (row.value, row.note) == (9.5, "mean of the last 2 losses: 9.5000")


def test_steps_of_training(monkeypatch):
    """Five batches by turns, gradients of each step alone and not scaled, the same random numbers."""
    seen, drawn, norms = [], [], []

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward_train(self, images, metas, boxes, labels):
            seen.append(float(images.sum()))
            drawn.append(float(torch.rand(1)))
            return self.weight

        def _parse_losses(self, found):
            return found.sum() * 3, {}

    monkeypatch.setattr(
        precision.nn.utils, "clip_grad_norm_", lambda some, most: norms.append((float(next(iter(some)).grad), most))
    )
    for _ in range(2):
        precision.train_steps(Model(), None, True, CPU, 64, 6)
    assert len(set(seen[:5])) == 5
    assert seen[5] == seen[0]
    assert len(set(drawn[:6])) == 6
    assert drawn[6:] == drawn[:6]
    assert norms == [(3.0, 35)] * 12


def test_loss_scaling_skips_steps_that_overflow():
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward_train(self, images, metas, boxes, labels):
            return self.weight

        def _parse_losses(self, found):
            return found.sum() * self.scale, {}

    model = Model()
    model.scale = 1e35  # times 65,536 it is above float32's largest number
    assert precision.train_steps(model, None, True, CPU, 64, 3)[1] == 3
    model = Model()
    model.scale = 1.0
    losses, skipped = precision.train_steps(model, None, True, CPU, 64, 3)
    assert skipped == 0
    assert losses[2] < losses[0]


def test_cost(tmp_path, monkeypatch):
    compilers = []
    monkeypatch.setattr(torch, "compile", lambda model, backend: compilers.append(backend) or model)
    sheet = Sheet("cost", tmp_path / "rows.jsonl")
    cost.run(sheet, CPU, TINY)
    rows = rows_of(tmp_path)
    assert [row for row in rows.values() if row.bad] == []
    for task in ("forward", "step"):
        for dtype in ("float32", "bfloat16"):
            for layout in ("usual layout", "channels last"):
                times = [rows[f"{task}, {dtype}, {layout}: {name}"].value for name in cost.MODELS]
                assert min(times) > 0
                ratio = rows[f"{task}, {dtype}, {layout}: LSKNetFDAM-S / LSKNet-S"]
                assert ("met" in ratio.note) == (ratio.value <= 1.1)
            memory = [row for row in rows.values() if row.what.startswith(f"{task}, {dtype}") and "memory" in row.what]
            assert len(memory) == 3
            assert all(row.state == "skipped" or (row.value > 0 and row.unit == "MiB") for row in memory)
    compiled = [row for row in rows.values() if "torch.compile" in row.what]
    (gain,) = [row for row in compiled if row.what.endswith("torch.compile: LSKNetFDAM-S, gain")]
    assert gain.what.startswith("forward, bfloat16, ")
    assert ("not gain" in gain.note) == (gain.value >= 1)
    assert [row.note for row in compiled if row.state == "skipped"] == ["a rehearsal compiles once"] * 3
    assert compilers == ["eager"] * 2


@pytest.mark.parametrize(("times", "words"), [(11.0, "met"), (11.01, "missed")])
def test_the_aim_is_ten_percent(sheet, tmp_path, monkeypatch, times, words):
    found = {"LSKNet-S": [10.0, 10.0], "LSKNetFDAM-S": [times] * 2}
    monkeypatch.setattr(cost, "time_by_turns", lambda *_, **__: found)
    cost._measure(sheet, "step", dict.fromkeys(found), 2, CPU)
    rows = rows_of(tmp_path)
    assert rows["step: LSKNetFDAM-S / LSKNet-S"].note == f"the aim is 1.1: {words}"
    assert (rows["step: LSKNet-S"].value, rows["step: LSKNet-S"].unit) == (10.0, "ms")


def test_networks_that_are_timed_share_their_weights_and_have_the_layout(monkeypatch):
    monkeypatch.setitem(cost._TASKS, "forward", lambda model, images, dtype: model)
    for last in (True, False):
        models = cost._tasks("forward", torch.zeros(1), None, last, TINY)
        assert list(models) == list(cost.MODELS)
        assert [model.channels_last for model in models.values()] == [last] * 3
        plain = models["LSKNet-S"].state_dict()
        for model in models.values():
            found = model.state_dict()
            assert all(torch.equal(value, found[key]) for key, value in plain.items())


def test_memory_is_told_in_mebibytes_of_a_second_call(sheet, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(cost, "peak_memory", lambda call: len(calls) * 3 * 2**20)
    cost._memory(sheet, "step", {"a": lambda: calls.append(None)})
    (row,) = rows_of(tmp_path).values()
    assert (row.value, row.unit) == (3.0, "MiB")


def test_the_faster_layout_is_compiled_for_as_long_as_the_last_one_took(tmp_path, monkeypatch):
    """Two take 100 seconds each; of the 300 then too few are left for a third, with a fifth more."""
    clock = Clock()
    clock.now, layouts = 0.0, []

    def measure(sheet, title, *_):
        if "torch.compile" in title:
            clock.now += 100
        return {name: [1.0 if "channels last" in title else 2.0] for name in cost.MODELS}

    monkeypatch.setattr(cost, "_measure", measure)
    monkeypatch.setattr(cost, "_memory", lambda sheet, title, tasks: layouts.append(title))
    monkeypatch.setattr(cost, "_tasks", lambda *_, **__: {})
    monkeypatch.setattr(cost.time, "monotonic", clock)
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *_: self)  # there is no GPU here
    cost.run(Sheet("cost", tmp_path / "rows.jsonl", 300.0, clock), torch.device("cuda"), TINY)
    assert len(layouts) == 4
    assert all("channels last" in title for title in layouts)
    rows = list(rows_of(tmp_path).values())
    assert [(row.state, row.value) for row in rows[:2]] == [("measured", 1.0)] * 2
    assert [row.note for row in rows[2:]] == ["100 s are left of this part's time, about 120 are needed"] * 2
    assert all(row.note.endswith("it does not gain") for row in rows[:2])


def test_compiling_is_left_out_where_time_is_short(tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "_measure", lambda *_: {name: [1.0] for name in cost.MODELS})
    monkeypatch.setattr(cost, "_tasks", lambda *_, **__: {})
    cost.run(Sheet("cost", tmp_path / "rows.jsonl", 100.0, lambda: 56.0), CPU, TINY)
    rows = rows_of(tmp_path)
    assert {row.state for row in rows.values()} == {"skipped"}
    assert next(row.note for row in rows.values()) == "44 s are left of this part's time, about 45 are needed"
    assert len(rows) == 4


def test_prediction(sheet, tmp_path):
    prediction.run(sheet, CPU, TINY, ROOT / "configs", tmp_path)
    rows = rows_of(tmp_path)
    assert [row for row in rows.values() if row.bad] == []
    # 160 pixels in windows of 96 with an overlap of 19: 2 x 2
    for kind in ("fp32", "bf16"):
        for size in (1, 4):
            row = rows[f"predict, {kind}, {size} windows at a time"]
            assert row.value > 0
            assert row.note.startswith("4 windows of 96, ")
            assert rows[f"{row.what}, share of time in which the GPU waits"].note == "there is no GPU"
    assert rows["training by the config, float32"].state == "right"
    assert rows["training by the config, float32"].note.startswith("6 steps, loss ")
    assert rows["training by the config, float16"].note == "fp16 of a config needs a GPU"


def test_steps_that_are_missing_are_seen(sheet, tmp_path, monkeypatch):
    def train(cfg, *_, **__):
        losses = [1.0, 2.0, math.inf, 3.0]  # of six
        lines = [json.dumps([number, loss, 0, 0]) for number, loss in enumerate(losses)]
        (prediction.Path(cfg.work_dir) / "steps.jsonl").write_text("\n".join(lines))
        scales.extend(step["img_scale"] for step in cfg.data.train.pipeline if "img_scale" in step)

    scales = []
    monkeypatch.setattr(prediction, "train", train)
    prediction._train(sheet, CPU, TINY, ROOT / "configs" / detectors.DETECTORS["Oriented R-CNN"], tmp_path)
    row = rows_of(tmp_path)["training by the config, float32"]
    assert (row.state, row.value) == ("wrong", 3)
    assert scales == [(TINY.precision, TINY.precision)], "patches are taken as they are"


def test_windows_per_second(sheet, tmp_path, monkeypatch):
    """The second prediction counts, which takes 2 seconds; the first warms up."""
    times = iter([0.0, 50.0, 100.0, 102.0])
    monkeypatch.setattr(prediction.time, "perf_counter", lambda: next(times))
    done = type("Summary", (), {"windows": 8, "detections": 5})
    monkeypatch.setattr(prediction, "predict_images", lambda *_, **__: done)
    prediction._predict(sheet, "predict", None, TINY, tmp_path, 1, CPU)
    row = rows_of(tmp_path)["predict"]
    assert (row.value, row.unit, row.note.split(",")[:2]) == (4.0, "windows/s", ["8 windows of 96", " 5 detections"])


def test_models_that_predict_take_windows_as_they_are(sheet, tmp_path, monkeypatch):
    """In both precisions, with heads that hold nearly all for background."""
    made = []

    def model(cfg, checkpoint, *, batch_size, device, precision):
        made.append((precision, batch_size, [s["img_scale"] for s in cfg.data.test.pipeline if "img_scale" in s]))

    monkeypatch.setattr(prediction, "_train", lambda *_: None)
    monkeypatch.setattr(prediction, "TorchModel", model)
    monkeypatch.setattr(prediction, "_predict", lambda *_: None)
    prediction.run(sheet, CPU, TINY, ROOT / "configs", tmp_path)
    assert [words[:2] for words in made] == [("fp32", 1), ("fp32", 4), ("bf16", 1), ("bf16", 4)]
    assert all(scales == [(TINY.window, TINY.window)] for _, _, scales in made)
    from safetensors.torch import load_file

    bias = load_file(tmp_path / "random.safetensors")["roi_head.bbox_head.fc_cls.bias"]
    assert bias[-1] - bias[:-1].max() > 3


def test_busy_seconds():
    # 10 to 30 and 20 to 25 overlap; 40 to 50 and 50 to 60 touch: 20 + 20 = 40 ns
    assert prediction.busy_seconds([(50, 60), (10, 30), (20, 25), (40, 50)]) == pytest.approx(40e-9)
    assert prediction.busy_seconds([]) == 0


def test_two_processes(sheet, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    processes.run(sheet, CPU, TINY, tmp_path)
    rows = rows_of(tmp_path)
    assert [row for row in rows.values() if row.bad] == []
    assert rows["two processes, gloo, gradients of both"].value == 0
    assert rows["two processes, gloo, beside the mean of both alone"].value < 1e-5
    assert rows["two processes, gloo, gradients without sharing"].value > 0.05


def test_gradients_that_are_not_shared_are_seen(sheet, tmp_path, monkeypatch):
    """The second process says something else than the first, and both not the mean of what they have alone."""

    class Process:
        returncode = 0

        def __init__(self, *_, env, **__):
            rank = int(env["RANK"])
            torch.save(torch.ones(size) * (1 + 0.01 * rank), tmp_path / f"gradient{rank}.pt")
            self.seconds = 1.5 + rank

        def communicate(self, timeout):
            return json.dumps({"seconds": self.seconds}), None

        def kill(self):
            pass

    model = processes._Trained(TINY.network)
    model(model.images(0)).backward()
    size = len(processes._gradient(model))
    monkeypatch.setattr(processes.subprocess, "Popen", Process)
    processes.run(sheet, CPU, TINY, tmp_path)
    rows = rows_of(tmp_path)
    assert rows["two processes, gloo, gradients of both"].state == "wrong"
    assert rows["two processes, gloo, gradients of both"].value == pytest.approx(0.01 / 1.01)
    assert rows["two processes, gloo, beside the mean of both alone"].state == "wrong"
    assert rows["two processes, gloo, a step"].value == 2.5


def test_two_processes_that_fail_are_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    popen = subprocess.Popen
    monkeypatch.setattr(processes.subprocess, "Popen", broken(popen))
    sheet = Sheet("processes", tmp_path / "rows.jsonl")
    processes.run(sheet, CPU, TINY, tmp_path)
    (row,) = read_rows(tmp_path / "rows.jsonl")
    assert row.note == "process 0 ended with code 1: said before the end"
    hanging = Sheet("processes", tmp_path / "late.jsonl", time.monotonic() + 1)
    monkeypatch.setattr(processes.subprocess, "Popen", broken(popen, "import time; time.sleep(60)"))
    processes.run(hanging, CPU, TINY, tmp_path)
    (row,) = read_rows(tmp_path / "late.jsonl")
    assert row.note == "they did not end: one waits for the other"


def broken(popen, code="raise SystemExit('said before the end')"):
    return lambda command, **settings: popen([command[0], "-c", code], **settings)


def test_one_gpu_is_too_few_for_nccl(sheet, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    processes.run(sheet, torch.device("cuda"), TINY, tmp_path)
    (row,) = rows_of(tmp_path).values()
    assert (row.state, row.note) == ("skipped", "NCCL wants a GPU for each process, and there is 1")


# ---- the command


def test_the_command_rehearses_and_its_table_has_the_numbers_of_its_json(tmp_path, capsys):
    main = load_script("tools/gpu_check.py").main
    out = tmp_path / "out"
    words = ["--device", "cpu", "--parts", "machine", "operations", "--out", str(out)]
    assert main(words) == 0
    printed = capsys.readouterr().out
    content = json.loads((out / "gpu_check.json").read_text())
    table = (out / "gpu_check.md").read_text()
    assert content["rehearsal"] is True
    assert "no number here says anything about a GPU" in table
    assert table in printed
    assert content["command"].endswith(f"gpu-check --device cpu --parts machine operations --out {out}")
    assert list(content["seconds"]) == ["machine", "all", "operations"]
    expected = []
    for row in content["rows"]:
        value, limit = (
            f"{v:.4g}" if isinstance(v, float) else "" if v is None else str(v) for v in (row["value"], row["limit"])
        )
        expected.append((row["what"], f"{value} {row['unit']}".strip(), limit))
    assert numbers(table) == expected
    assert len(expected) > 20
    from fdam_rotate.dota.errors import OutputExistsError

    with pytest.raises(OutputExistsError):
        main(words)
    assert main([*words[:3], "machine", "--out", str(out), "--overwrite"]) == 0
    assert {row["part"] for row in json.loads((out / "gpu_check.json").read_text())["rows"]} == {"machine"}


def test_the_command_fails_where_something_is_wrong(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(supervise, "_run_process", lambda *_: "it broke")
    main = load_script("tools/gpu_check.py").main
    assert main(["--device", "cpu", "--out", str(tmp_path / "out")]) == 1
    content = json.loads((tmp_path / "out" / "gpu_check.json").read_text())
    assert [row["part"] for row in content["rows"]] == [part.name for part in plan.PARTS]
    assert f"{len(plan.PARTS)} rows: {len(plan.PARTS)} failed" in capsys.readouterr().out


def test_wrong_words_and_a_missing_gpu(tmp_path, monkeypatch, capsys):
    main = load_script("tools/gpu_check.py").main
    with pytest.raises(SystemExit) as caught:
        main(["--parts", "network", "--out", str(tmp_path / "out")])
    assert caught.value.code == 2
    assert "there is no network; there are machine, operations, networks" in capsys.readouterr().err
    from fdam_rotate.dota.errors import DotaError

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DotaError, match=r"no device cuda:1: torch .* sees 0 GPUs here; use --device cpu"):
        main(["--device", "cuda:1", "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


# ---- the machine without a network


def machine(*words, **environment):
    return subprocess.run(
        ["bash", str(ROOT / "tools" / "gpu_machine.sh"), *map(str, words)],
        capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin", **environment},
    )  # fmt: skip


def test_the_script_says_what_is_missing(tmp_path):
    assert "expected pack or check, got ''" in machine().stderr
    done = machine("pack", tmp_path, tmp_path / "mmcv.whl")
    assert (done.returncode, "no such wheel" in done.stderr) == (1, True)
    (tmp_path / "mmcv-2.0.0-cp312-cp312-linux_x86_64.whl").touch()
    assert "is not a wheel of mmcv-full 1.7.2" in machine("pack", tmp_path, *tmp_path.glob("*.whl")).stderr
    done = machine("check", tmp_path)
    assert (done.returncode, "no wheel of mmcv-full in" in done.stderr) == (1, True)
    (tmp_path / "mmcv_full-1.7.2-cp37-cp37-linux_x86_64.whl").touch()
    assert "is for cp37, python3 is cp3" in machine("check", tmp_path).stderr


def test_the_script_carries_what_the_parts_import():
    """Beside what comes with the packages that its first lines count on, and with this one."""
    given = {
        "torch", "torchgen", "functorch", "triton", "torchvision", "PIL", "sympy", "mpmath", "typing_extensions",
        "filelock", "fsspec", "jinja2", "markupsafe", "networkx", "setuptools", "pkg_resources", "_distutils_hack",
        "distutils", "numpy", "scipy", "cv2", "matplotlib", "mpl_toolkits", "contourpy", "cycler", "dateutil",
        "fontTools", "kiwisolver", "packaging", "pyparsing", "six", "safetensors", "tensorboard", "fdam_rotate", "mmcv",
    }  # fmt: skip
    code = (
        "import importlib, sys\n"
        "from fdam_rotate.apis.gpu_check.plan import PARTS\n"
        "for part in PARTS: importlib.import_module(f'fdam_rotate.apis.gpu_check.{part.name}')\n"
        "files = {name.partition('.')[0]: getattr(part, '__file__', None) for name, part in sys.modules.items()}\n"
        "print(*(name for name, file in files.items() if file and 'site-packages' in file))"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    script = (ROOT / "tools" / "gpu_machine.sh").read_text()
    (carried,) = re.findall(r"^packages=\((.*)\)$", script, re.MULTILINE)
    names = {re.split("[=<>]", word)[0].lower() for word in carried.split()}
    held = packages_distributions()
    imported = {name for name in done.stdout.split() if not name.startswith(("_", "__editable__"))} - given
    assert {"mmdet", "mmrotate", "yaml", "tqdm"} <= imported
    assert {name for name in imported if not {one.lower() for one in held.get(name, ())} & names} == set()
