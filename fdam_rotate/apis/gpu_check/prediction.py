"""Training in float16 by the project's own way, and predict: windows per second, and how long the GPU waits.

The weights are random, with the background favoured: an untrained head lets thousands of boxes through.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmcv import Config

from fdam_rotate.apis.checkpoints.checkpoint import save_checkpoint_file
from fdam_rotate.apis.compare.steps import StepCostHook
from fdam_rotate.apis.compat import load_config
from fdam_rotate.apis.gpu_check import scenes
from fdam_rotate.apis.gpu_check.detectors import DETECTORS, build, fit
from fdam_rotate.apis.gpu_check.plan import Sizes
from fdam_rotate.apis.gpu_check.sheet import Sheet
from fdam_rotate.apis.predict import TorchModel
from fdam_rotate.apis.runtime import start_runtime
from fdam_rotate.apis.train import train
from fdam_rotate.dota.layout import SourceImage
from fdam_rotate.dota.predicting.predict import predict_images
from fdam_rotate.dota.splitting.options import SplitOptions

__all__ = ["busy_seconds", "run"]

_STEPS = 6


def run(sheet: Sheet, device: torch.device, sizes: Sizes, configs: Path, scratch: Path) -> None:
    """Train a few steps, then predict one large image."""
    config = configs / DETECTORS["Oriented R-CNN"]
    with sheet.case("training"):
        _train(sheet, device, sizes, config, scratch)
    with sheet.case("predict"):
        cfg = load_config(config)
        fit(cfg, sizes)
        _keep_size(cfg.data.test.pipeline, sizes.window)
        model = build(cfg)
        with torch.no_grad():
            model.roi_head.bbox_head.fc_cls.weight.mul_(0.1)
            model.roi_head.bbox_head.fc_cls.bias[-1] += 4
        checkpoint = scratch / "random.safetensors"
        save_checkpoint_file(checkpoint, model.state_dict())
        for precision in ("fp32", "bf16"):
            for batch_size in (1, 4):
                title = f"predict, {precision}, {batch_size} windows at a time"
                with sheet.case(title):
                    found = TorchModel(
                        copy.deepcopy(cfg), checkpoint, batch_size=batch_size, device=str(device), precision=precision
                    )
                    _predict(sheet, title, found, sizes, scratch, batch_size, device)


def _train(sheet: Sheet, device: torch.device, sizes: Sizes, config: Path, scratch: Path) -> None:
    """`fdam_rotate.apis.train.train` on generated patches, in float32 and with the config's ``fp16``."""
    data = scratch / "patches"
    scenes.write_patches(data, sizes.precision, 8)
    first: dict[str, float] = {}
    for name, fp16 in (("float32", None), ("float16", {"loss_scale": "dynamic"})):
        title = f"training by the config, {name}"
        if fp16 is not None and device.type != "cuda":
            sheet.skip(title, "fp16 of a config needs a GPU")
            continue
        with sheet.case(title):
            base = load_config(config)
            fit(base, sizes)
            _keep_size(base.data.train.pipeline, sizes.precision)
            patches = {"data_root": str(data), "ann_file": "annfiles", "img_prefix": "images"}
            cfg = Config({
                **{key: base[key] for key in ("model", "optimizer", "optimizer_config")},
                "data": {
                    "samples_per_gpu": 2, "workers_per_gpu": 2 if device.type == "cuda" else 0,
                    "train": {**base.data.train, **patches},
                },
                "runner": {"type": "IterBasedRunner", "max_iters": _STEPS}, "workflow": [("train", 1)], "fp16": fp16,
                "lr_config": {"policy": "fixed"}, "checkpoint_config": {"interval": _STEPS},
                "log_config": {"interval": 100, "hooks": []}, "custom_hooks": [{"type": StepCostHook.__name__}],
                "work_dir": str(scratch / name),
            })  # fmt: skip
            Path(cfg.work_dir).mkdir()
            train(cfg, start_runtime("none", str(device)), logging.getLogger("gpu_check"), validate=False)
            rows = [json.loads(line) for line in (scratch / name / "steps.jsonl").read_text().splitlines()]
            losses = [loss for _, loss, _, _ in rows]
            first[name] = losses[0]
            bad = sum(not math.isfinite(loss) for loss in losses) + abs(len(losses) - _STEPS)
            sheet.check(
                title, bad, 0, "steps missing or not finite", f"{len(losses)} steps, loss {losses[0]:.4f} at first"
            )
            if name != "float32":
                apart = abs(losses[0] / first["float32"] - 1)
                sheet.check(f"{title}, first loss beside float32", apart, 0.05)


def _keep_size(steps: Iterable[dict[str, Any]], side: int) -> None:
    """Let a pipeline take images of this side as they are."""
    for step in steps:
        if "img_scale" in step:
            step["img_scale"] = (side, side)


def _predict(
    sheet: Sheet, title: str, model: TorchModel, sizes: Sizes, scratch: Path, batch_size: int, device: torch.device
) -> None:
    options = SplitOptions(sizes=(sizes.window,), gaps=(sizes.window // 5,))

    def predict(source: Path) -> tuple[float, Any]:
        number = len(list(scratch.glob("found*")))
        start = time.perf_counter()
        summary = predict_images(
            model, [SourceImage(source.stem, source, None)], scratch / f"found{number}", options, batch_size=batch_size
        )
        return time.perf_counter() - start, summary

    small, large = (_image(scratch, side) for side in (2 * sizes.window, sizes.scene))
    predict(small)  # builds the model and warms up
    seconds, summary = predict(large)
    note = f"{summary.windows} windows of {sizes.window}, {summary.detections} detections, PNG to text files"
    sheet.measure(title, summary.windows / seconds, "windows/s", note)
    what = f"{title}, share of time in which the GPU waits"
    if device.type != "cuda":
        sheet.skip(what, "there is no GPU")
        return
    with sheet.case(what):
        busy = _profiled(lambda: predict(large))
        if busy is None:
            sheet.skip(what, "torch's profiler saw no kernel on this machine")
        else:
            sheet.measure(what, max(0.0, 1 - busy / seconds), note="kernels by torch's profiler, time without it")


def _image(scratch: Path, side: int) -> Path:
    """A picture (side, side) of generated scenes, made once."""
    path = scratch / f"scene{side}.png"
    if not path.is_file():
        rng = np.random.default_rng(0)
        tile = cv2.resize(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8), (256, 256))
        times = -(-side // 256)
        cv2.imwrite(str(path), np.tile(tile, (times, times, 1))[:side, :side])
    return path


def _profiled(call: Any) -> float | None:
    """Seconds in which the GPU ran kernels or copies during ``call``; None where the profiler saw none."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        call()
        torch.cuda.synchronize()
    events = profiler.profiler.kineto_results.events()
    spans = [(e.start_ns(), e.start_ns() + e.duration_ns()) for e in events if e.device_type() == DeviceType.CUDA]
    return busy_seconds(spans) if spans else None


def busy_seconds(spans: Iterable[tuple[int, int]]) -> float:
    """Seconds that intervals of nanoseconds cover together; where they overlap counts once."""
    covered, end = 0, 0
    for first, last in sorted(spans):
        covered += max(0, last - max(first, end))
        end = max(end, last)
    return covered / 1e9
