"""One run of a comparison, in a process of its own: start weights, training, test, score, record.

    python -m fdam_rotate.apis.compare.worker JOB.json

``JOB.json`` is what `Job` says. Killed at any moment and started again, it goes on from its last checkpoint to the same
end.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fdam_rotate.apis.compat import dataset_settings, named_paths
from fdam_rotate.cli import run as run_command
from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.files import sha256_of, write_text
from fdam_rotate.dota.layout import image_files
from fdam_rotate.dota.rasters.images import image_size
from fdam_rotate.dota.scoring.bootstrap import source_images
from fdam_rotate.dota.words import counted

__all__ = ["Job", "data_identity", "main", "perform", "read_steps", "read_switches", "start_weights"]

#: Checkpoints that a run leaves, so that at most this part of it is lost when it is killed.
CHECKPOINTS = 25
WEIGHTS = "final.safetensors"


@dataclass(frozen=True)
class Job:
    """What a run is.

    Attributes:
        name: of the side.
        config: file.
        reference: config whose weights all sides start from, where names and shapes agree.
        seed: of start weights, order, augmentation and all random numbers.
        settings: see `fdam_rotate.apis.compare.plan.Side`.
        folder: of the run's files.
        record: file that is written at the end.
        options: settings merged into both configs.
        trial_steps: train for so many steps only and write no record; None for the run itself.
    """

    name: str
    config: str
    reference: str
    seed: int
    settings: str
    folder: str
    record: str
    options: Mapping[str, Any]
    trial_steps: int | None = None

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        write_text(path, json.dumps(asdict(self), indent=1) + "\n")


def main() -> int:
    """Read the job file and do it."""
    if len(sys.argv) != 2:
        print("usage: python -m fdam_rotate.apis.compare.worker JOB.json", file=sys.stderr)
        return 2
    job = Job(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    from fdam_rotate.host.quiet import quiet_host

    quiet_host()
    perform(job)
    return 0


def perform(job: Job) -> None:
    """Do a run, or what is left of it.

    Raises:
        DotaError: the config's runner counts epochs, or data or weights do not fit.
    """
    from mmrotate.utils import get_root_logger, setup_multi_processes

    from fdam_rotate.apis.checkpoints.checkpoint import install_safe_loader, load_checkpoint_file, save_checkpoint_file
    from fdam_rotate.apis.compare import steps as step_hooks  # noqa: F401 - registers the hooks
    from fdam_rotate.apis.compat import load_config, revert_sync_bn
    from fdam_rotate.apis.runners import latest_checkpoint, progress_of
    from fdam_rotate.apis.runtime import start_runtime
    from fdam_rotate.apis.train import check_training_config, train

    folder = Path(job.folder)
    folder.mkdir(parents=True, exist_ok=True)
    cfg = load_config(job.config, dict(job.options))
    text = cfg.pretty_text
    if cfg.runner["type"] != "IterBasedRunner":
        raise DotaError(
            f"{job.config}: a comparison counts steps; set runner=dict(type='IterBasedRunner', max_iters=N)"
        )
    steps = job.trial_steps or cfg.runner.max_iters
    cfg.runner.max_iters = steps
    cfg.work_dir = str(folder)
    cfg.auto_resume = True
    cfg.checkpoint_config = {"interval": max(1, steps // CHECKPOINTS), "max_keep_ckpts": 1}
    cfg.log_config = {"interval": 50, "hooks": [{"type": "TextLoggerHook"}]}
    revert_sync_bn(cfg.model)
    check_training_config(cfg, validate=True)
    _check_val(cfg.data.get("val"), job.config)
    data = {part: data_identity(cfg.data[part]) for part in ("train", "val")}  # before training, since it may fail
    setup_multi_processes(cfg)
    install_safe_loader()
    runtime = start_runtime("none")
    logger = get_root_logger(log_file=str(folder / "log.txt"), log_level="INFO")
    logger.info(f"{job.name}, seed {job.seed}: {steps} steps")

    weights = folder / WEIGHTS
    if not weights.is_file():
        latest = latest_checkpoint(folder)
        if latest is None or progress_of(load_checkpoint_file(latest)["meta"], by_epoch=False)[1] < steps:
            if latest is None:
                cfg.load_from = str(folder / "start.safetensors")
                start = start_weights(cfg, load_config(job.reference, dict(job.options)), job.seed)
                save_checkpoint_file(cfg.load_from, start, overwrite=True)
            watched = copy.deepcopy(cfg)
            watched.custom_hooks = [*(cfg.get("custom_hooks") or ()), {"type": "StepCostHook"}]
            train(watched, runtime, logger, validate=False, seed=job.seed)
        if job.trial_steps is not None:
            return
        state = load_checkpoint_file(folder / "latest.pth")
        meta = {"CLASSES": list(state["meta"]["CLASSES"])}
        save_checkpoint_file(weights, state["state_dict"], meta, overwrite=True)
    _score(job, cfg, text, data, weights, runtime, logger)
    for path in folder.glob("*.pth"):  # the run is finished; final.safetensors stays
        path.unlink()
    logger.info(f"done: {job.record}")


def start_weights(cfg: Any, reference: Any, seed: int) -> dict[str, Any]:
    """The model's weights as ``seed`` makes them, those of the reference where it has the same names and shapes.

    Where the reference names weights to start from (``load_from``), these go before both.
    """
    from fdam_rotate.apis.checkpoints.checkpoint import load_checkpoint_file

    own, shared = _initial(cfg, seed), _initial(reference, seed)
    if reference.get("load_from"):
        shared.update(load_checkpoint_file(reference.load_from)["state_dict"])
    return {
        key: shared[key].to(value.dtype) if key in shared and shared[key].shape == value.shape else value
        for key, value in own.items()
    }


def _initial(cfg: Any, seed: int) -> dict[str, Any]:
    from mmrotate.models import build_detector

    from fdam_rotate.apis.compat import revert_sync_bn
    from fdam_rotate.apis.train import seed_everything

    revert_sync_bn(cfg.model)
    seed_everything(seed, deterministic=False)
    level = logging.getLogger("mmcv").level
    logging.getLogger("mmcv").setLevel(logging.ERROR)  # a line for each parameter otherwise
    model = build_detector(copy.deepcopy(cfg.model), train_cfg=cfg.get("train_cfg"), test_cfg=cfg.get("test_cfg"))
    model.init_weights()
    logging.getLogger("mmcv").setLevel(level)
    return {key: value.clone() for key, value in model.state_dict().items()}


def _score(job: Job, cfg: Any, text: str, data: dict[str, Any], weights: Path, runtime: Any, logger: Any) -> None:
    from fdam_rotate.apis.analysis.flops import detector_costs
    from fdam_rotate.apis.compare.records import IOU_THRS, PROTOCOL, Record, Verdicts, write_record
    from fdam_rotate.apis.doctor import versions
    from fdam_rotate.apis.inference import load_detector, predict, put_on
    from fdam_rotate.apis.loading import ordered_loader

    loader = ordered_loader(cfg, "val", distributed=False)
    dataset = loader.dataset
    model = load_detector(copy.deepcopy(cfg), weights, dataset.CLASSES).eval()
    shape = tuple(int(n) for n in _shape_of(dataset))
    total = {cost.name: cost for cost in detector_costs(model, shape)}
    parts = list(total.values())
    model = put_on(model, runtime, cfg)
    clocks = time.perf_counter(), time.process_time()
    results = predict(model, loader, what=job.name)
    wall, cpu = time.perf_counter() - clocks[0], time.process_time() - clocks[1]
    assert results is not None  # one process only
    result, whole = dataset.score(dataset.detections(results), iou_thr=IOU_THRS, ap="voc12")
    if not whole:
        logger.warning("data.val has no gt_dir: patches are scored, not whole images")
    scores = {
        "metric": result.metric,
        "whole_images": whole,
        "AP50": result.map_at(0),
        "AP75": result.map_at(IOU_THRS.index(0.75)),
        "AP50:95": result.map_mean,
        "AP50_by_class": result.ap_at(0),
        "AP75_by_class": result.ap_at(IOU_THRS.index(0.75)),
    }
    steps = read_steps(Path(job.folder) / "steps.jsonl")
    if len(steps) != cfg.runner["max_iters"]:
        raise DotaError(
            f"{job.folder} holds {len(steps)} of {cfg.runner['max_iters']} steps: another run left its weights there; "
            "remove the folder and run the command again"
        )
    whole_cost = total.get("total") or parts[-1]
    record = Record(
        name=job.name,
        seed=job.seed,
        settings=job.settings,
        config_text=text,
        data=data,
        machine={
            "device": _device_name(runtime),
            "threads": _threads(),
            "versions": {name: str(version) for name, version in versions().items()},
        },
        training={
            "steps": len(steps),
            "loss": _curve([row[1] for row in steps]),
            "seconds_per_step": round(statistics.median(row[2] for row in steps), 4),
            "cpu_seconds_per_step": round(statistics.median(row[3] for row in steps), 4),
            "switches": _switches(weights),
            "switches_by_step": read_switches(Path(job.folder) / "switches.jsonl"),
        },
        cost={
            "shape": list(shape),
            "parameters": int(whole_cost.params),
            "multiply_adds": float(whole_cost.macs),
            "windows": len(dataset),
            "seconds_per_window": round(wall / len(dataset), 4),
            "cpu_seconds_per_window": round(cpu / len(dataset), 4),
        },
        scores=scores,
        verdicts=Verdicts.of(result),
        protocol=PROTOCOL,
    )
    write_record(Path(job.record), record)
    logger.info(f"AP50 {scores['AP50']:.4f}  AP75 {scores['AP75']:.4f}  AP50:95 {scores['AP50:95']:.4f}")


def _check_val(val: Any, config: str) -> None:
    """Refuse what cannot be scored after the training."""
    from mmrotate.datasets.builder import ROTATED_DATASETS

    if val is None:
        raise DotaError(f"{config}: there is no data.val to score on")
    kind = val.get("type") if isinstance(val, dict) else "a list"
    if isinstance(val, dict) and isinstance(val.get("ann_file"), list):
        kind = "of several folders"
    if not hasattr(ROTATED_DATASETS.get(kind), "score"):
        raise DotaError(
            f"{config}: data.val is {kind}, which cannot be scored; expected one data set such as DOTAPatchDataset"
        )
    (folder,) = _places(val, "img_prefix")
    images = set(source_images([path.stem for path in image_files(folder)]))
    if len(images) < 2:
        raise DotaError(f"{folder} holds {counted(len(images), 'image')}; an interval needs at least two to draw from")


def data_identity(part: Any) -> dict[str, Any]:
    """SHA-256 of a part's labels and of its images' names and sizes, and the number of images.

    The images' bytes are left out: another version of the encoder writes the same pixels otherwise. ``part`` may be
    several data sets, or one that is repeated or balanced.
    """
    digest, count = hashlib.sha256(), 0
    for _, settings in dataset_settings(part, "data"):
        labels = [place for key in ("ann_file", "ann_dir") for place in _places(settings, key)]
        labels += [Path(settings["gt_dir"])] if settings.get("gt_dir") else []
        for path in (path for place in labels for path in _label_files(place)):
            digest.update(f"{path.name}\0{sha256_of(path)}\n".encode())
        for path in (path for place in _places(settings, "img_prefix") for path in image_files(place)):
            digest.update(f"{path.name}\0{image_size(path)}\n".encode())
            count += 1
    return {"sha256": digest.hexdigest(), "images": count}


def _places(settings: Any, key: str) -> list[Path]:
    return [Path(settings.get("data_root") or "") / name for name in named_paths(settings, key)]


def _label_files(place: Path) -> list[Path]:
    """The files of a folder of labels; a list of images, as HRSC2016 has it, is itself one."""
    return [place] if place.is_file() else sorted([*place.glob("*.txt"), *place.glob("*.xml")])


def read_steps(path: Path) -> list[tuple[int, float, float, float]]:
    """Step, loss, seconds and CPU seconds of each step, in order."""
    return [(step, loss, wall, cpu) for step, loss, wall, cpu in _read_rows(path)]


def read_switches(path: Path) -> list[tuple[int, dict[str, float]]]:
    """Step and what `steps.switched_on` gave then, in order, to three digits; empty where nothing was noted."""
    rows = _read_rows(path) if path.is_file() else []
    return [(step, {kind: float(f"{value:.3g}") for kind, value in on.items()}) for step, on in rows if on]


def _read_rows(path: Path) -> list[list[Any]]:
    """The rows of a file of notes, in the order of their steps; the last line for a step counts."""
    rows: dict[int, list[Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue  # half a line, written when the run was killed
        rows[row[0]] = row
    return [rows[step] for step in sorted(rows)]


def _curve(losses: list[float], points: int = 100) -> list[tuple[int, float]]:
    """Step and mean loss of at most ``points`` equal parts."""
    width = max(1, -(-len(losses) // points))
    parts = [losses[k : k + width] for k in range(0, len(losses), width)]
    return [(min((k + 1) * width, len(losses)), round(statistics.fmean(part), 4)) for k, part in enumerate(parts)]


def _switches(weights: Path) -> dict[str, float]:
    """Largest absolute value of each of FDAM's parameters that begin at (almost) zero: how far it was switched on."""
    from fdam_rotate.apis.analysis.features import FDAM_SWITCHES
    from fdam_rotate.apis.checkpoints.checkpoint import load_checkpoint_file

    state = load_checkpoint_file(weights)["state_dict"]
    return {key: float(f"{value.abs().max():.3g}") for key, value in state.items() if key.endswith(FDAM_SWITCHES)}


def _shape_of(dataset: Any) -> tuple[int, int]:
    """Height and width of the first image as the model gets it."""
    image = dataset[0]["img"]
    first = image[0] if isinstance(image, (list, tuple)) else image
    return tuple((first.data if hasattr(first, "data") else first).shape[-2:])


def _device_name(runtime: Any) -> str:
    if runtime.device != "cpu":
        import torch

        return torch.cuda.get_device_name(runtime.gpu_id)
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return f"CPU, {models[0].partition(': ')[2] if models else 'unknown'}, {os.cpu_count()} cores"


def _threads() -> int:
    import torch

    return torch.get_num_threads()


if __name__ == "__main__":
    run_command(main)
