"""Testing: predict each patch once, write the detections as text, and do everything else from that text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmcv.cnn import fuse_conv_bn as fold_batch_norm
from mmrotate.utils import get_root_logger, setup_multi_processes

from fdam_rotate.apis.inference import load_detector, predict, put_on
from fdam_rotate.apis.loading import ordered_loader
from fdam_rotate.apis.precision import set_precision
from fdam_rotate.apis.runtime import start_runtime
from fdam_rotate.apis.train import check_classes
from fdam_rotate.dota.detections import Detections, read_detections, task_file_name, write_detections
from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.files import write_text
from fdam_rotate.dota.merging.options import MergeOptions
from fdam_rotate.dota.names import escape_note
from fdam_rotate.dota.outputs import check_inputs, claim_file, claim_folder
from fdam_rotate.dota.progress import progress_bar
from fdam_rotate.dota.rasters.images import read_image
from fdam_rotate.dota.scoring.drawing import draw_detections
from fdam_rotate.dota.scoring.report import format_notes, format_table
from fdam_rotate.dota.submission import write_submission
from fdam_rotate.dota.words import counted

__all__ = ["Outputs", "run_test"]


@dataclass(frozen=True)
class Outputs:
    """Folders that a test writes; None: not wanted."""

    detections: Path
    submission: Path | None = None
    pictures: Path | None = None


def run_test(
    cfg: Any,
    checkpoint: str | Path,
    outputs: Outputs,
    *,
    split: str = "test",
    score: dict[str, Any] | None = None,
    score_thr: float = 0.3,
    nms_agnostic: bool = False,
    fuse_conv_bn: bool = False,
    precision: str = "fp32",
    launcher: str = "none",
    device: str = "auto",
    overwrite: bool = False,
    unsafe_load: bool = False,
) -> int:
    """Test ``checkpoint`` on ``cfg.data[split]``; outputs and data are checked before the checkpoint is opened.

    Args:
        cfg: MMRotate config.
        checkpoint: file, read as tensors only unless ``unsafe_load``.
        outputs: what to write, where.
        split: ``'test'`` or ``'val'``.
        score: settings of ``DOTAPatchDataset.score``, or None not to score.
        score_thr: draw detections from this score up.
        nms_agnostic: boxes suppress each other whatever their classes are when patches are merged.
        fuse_conv_bn: fold BatchNorm into convolutions before predicting.
        precision: as for ``set_precision``.
        launcher: as for ``start_runtime``.
        device: as for ``start_runtime``.
        overwrite: replace the files of an earlier test in these folders.
        unsafe_load: open a checkpoint that carries code.

    Returns:
        Exit code.
    """
    if cfg.data.get(split) is None:
        raise DotaError(f"the config has no data.{split}")
    runtime = start_runtime(launcher, device, cfg.get("dist_params"))
    logger = get_root_logger(log_level=cfg.get("log_level", "INFO") if runtime.rank == 0 else "ERROR")
    setup_multi_processes(cfg)
    loader = ordered_loader(cfg, split, runtime.distributed)
    dataset = loader.dataset
    if not hasattr(dataset, "detections"):
        raise DotaError(f"data.{split} is a {type(dataset).__name__}; tools/test.py tests a DOTAPatchDataset")
    check_classes(cfg.model, dataset.CLASSES)
    if score is not None:
        dataset.truths()  # raises early where there is nothing to score against
    if runtime.rank == 0:
        _claim(outputs, dataset, [checkpoint, cfg.filename], overwrite)

    model = load_detector(cfg, checkpoint, dataset.CLASSES, unsafe_load=unsafe_load)
    if fuse_conv_bn:
        model = fold_batch_norm(model)
    results = predict(put_on(set_precision(model, precision), runtime, cfg), loader)
    if results is None:
        return 0
    write_detections(outputs.detections, dataset.detections(results), classes=dataset.CLASSES)
    write_text(outputs.detections / "patches.txt", "".join(f"{name}\n" for name in dataset.img_ids))
    logger.info(f"wrote {outputs.detections}: {counted(len(dataset), 'patch')}")

    merge = MergeOptions(nms_agnostic=nms_agnostic)
    found = read_detections(outputs.detections, classes=dataset.CLASSES)
    if outputs.submission is not None:
        merged = dataset.merge(found, merge)
        write_detections(outputs.submission, merged, classes=dataset.CLASSES)
        write_submission(f"{outputs.submission}.zip", merged, dataset.CLASSES)
        logger.info(f"wrote {outputs.submission}/Task1_<class>.txt and {outputs.submission}.zip")
        if note := escape_note(image_id for one in merged.values() for image_id in one.image_ids):
            logger.warning(note)
    if outputs.pictures is not None:
        _draw(dataset, found, outputs.pictures, score_thr)
        logger.info(f"drew {counted(len(dataset), 'patch')} into {outputs.pictures}")
    if score is not None:
        result, whole = dataset.score(found, merge=merge, **score)
        print("\n".join([format_table(result), *format_notes(result)]))
        print("mAP of merged whole images" if whole else f"patch mAP: no whole-image labels (gt_dir: {dataset.gt_dir})")
    return 0


def _claim(outputs: Outputs, dataset: Any, files: list[Any], overwrite: bool) -> None:
    """Make the output folders; nothing but the files of an earlier test is replaced."""
    inputs = [*files, dataset.ann_file, dataset.img_prefix, dataset.gt_dir, dataset.manifest]
    if outputs.submission is not None:
        claim_file(f"{outputs.submission}.zip", overwrite=overwrite, inputs=inputs)
    for folder in (outputs.submission, outputs.pictures):
        if folder is not None:
            check_inputs(folder, inputs)
    texts = [task_file_name(name) for name in dataset.CLASSES]
    own = ["Task1_*.txt", "patches.txt"]
    claim_folder(outputs.detections, [*texts, "patches.txt"], own=own, overwrite=overwrite, inputs=inputs)
    if outputs.submission is not None:
        claim_folder(outputs.submission, texts, own=own[:1], overwrite=overwrite)
    if outputs.pictures is not None:
        names = [f"{Path(info['filename']).stem}.png" for info in dataset.data_infos]
        claim_folder(outputs.pictures, names, record="test", overwrite=overwrite)


def _draw(dataset: Any, detections: dict[str, Detections], folder: Path, score_thr: float) -> None:
    with progress_bar(len(dataset.data_infos), "draw", "patch", shown=True) as bar:
        for info in dataset.data_infos:
            image, _ = read_image(Path(dataset.img_prefix) / info["filename"], dataset.raster)
            patch = Path(info["filename"]).stem
            own = {}
            for name, found in detections.items():
                rows = np.array([i == patch for i in found.image_ids])[found.image] if len(found) else np.zeros(0, bool)
                own[name] = found.take(rows & (found.scores >= score_thr))
            picture = draw_detections(image, own, classes=dataset.CLASSES)
            if not cv2.imwrite(str(folder / f"{patch}.png"), picture):
                raise OSError(f"cannot write {folder / patch}.png")
            bar.update()
