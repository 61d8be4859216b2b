"""Run the whole path once: data, patches, training, test, merge, submission, score, picture.

    fdam-rotate demo                         generated scenes, about 8 minutes on two cores
    fdam-rotate demo --data shared/my_data   a DOTA-layout folder: train/ and val/, each with images/ and labelTxt/
    fdam-rotate demo --data shared/my_data --init lsk_t_backbone-2ef8a593.pth --minutes 60

--init takes an LSKNet or LSKNet-FDAM checkpoint, of a backbone or a detector: real images want a start better than
noise. The demo's own network is a quarter of LSKNet-S's width, which no published file fits; with --init it gets the
width and depth of the file, and its steps take longer. The backbones that LSKNet's authors trained on ImageNet,
lsk_t_backbone-2ef8a593.pth and lsk_s_backbone-e9d2e551.pth, lie under
https://download.openmmlab.com/mmrotate/v1.0/lsknet/backbones/ (CC BY-NC 4.0: no commercial use); none is fetched.

With --data, or --minutes, a short training measures first how long a step takes here; the steps are then as many as the
data want, 24 passes over its patches, or as the minutes allow.

Prints each step's command as one would type it. Everything lands in WORK_DIR: what the released model finds before any
training in before_training/, the trained model in train/, its detections in test/, the merged detections in submission/
with submission.zip beside, scores in scores.json, pictures in pictures/.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fdam_rotate.commands.arguments import add_overwrite
from fdam_rotate.commands.parser import CommandParser, command_parser
from fdam_rotate.commands.values import (
    config_file,
    config_folder,
    existing_file,
    existing_folder,
    non_negative_int,
    positive_float,
    positive_int,
)
from fdam_rotate.dota.classes import DOTA_CLASSES
from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.files import write_text
from fdam_rotate.dota.labels import read_label_dir
from fdam_rotate.dota.layout import image_files
from fdam_rotate.dota.outputs import check_inputs, claim_folder, recorded
from fdam_rotate.dota.splitting.presets import MEAN_COLOUR
from fdam_rotate.dota.words import counted

#: Passes over the training patches that a run on one's own data aims at, its least steps, and its minutes by default.
PASSES, LEAST_STEPS, MINUTES = 24, 100, 15
#: Steps of the training that measures how long one takes, and images of a step.
TIMED_STEPS, BATCH = 12, 2
#: What the start weights state of the model; they want a smaller learning rate than weights at random.
INIT = """
    backbone=dict({backbone}, init_cfg=dict(
        _delete_=True, type='Pretrained', checkpoint={checkpoint!r})),
    neck=dict(in_channels={dims!r}),
    """
LEARNING_RATE = "optimizer = dict(lr=2e-4)\n"
#: Classes of the generated scenes: few enough, and different enough, to be learnt in minutes.
SCENE_CLASSES = ("plane", "ship", "storage-tank", "swimming-pool")
#: The model of configs/released that is shown before training, its classes, and on how many images.
RELEASED = "vhr10_small"
RELEASED_CLASSES = (
    "plane", "ship", "storage-tank", "baseball-diamond", "tennis-court", "basketball-court", "ground-track-field",
    "harbor", "bridge", "small-vehicle",
)  # fmt: skip
SHOWN = 6

CONFIG = """\
# What a config for one's own images states: where they are, their classes, and what differs from its base.
_base_ = {base!r}

classes = {classes!r}
patches = {patches!r}
model = dict({init}roi_head=dict(bbox_head=dict(num_classes={count})))
data = dict(
    samples_per_gpu={batch},
    workers_per_gpu=1,
    train=dict(classes=classes, data_root=patches),
    val=dict(classes=classes, data_root=patches, gt_dir={gt!r}),
    test=dict(classes=classes, data_root=patches, ann_file='val/images', img_prefix='val/images'))
runner = dict(max_iters={iters})
evaluation = dict(interval={iters})
checkpoint_config = dict(interval={iters})
"""


def build_parser() -> CommandParser:
    """Few flags: this is a tour, not a tool."""
    parser = command_parser("demo", __doc__, "tools/demo.py")
    parser.add_argument(
        "--data", type=existing_folder, metavar="DIR", help="DOTA-layout folder (default: generate scenes)"
    )
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/demo"), help="default: work_dirs/demo")
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--iters", type=positive_int, help="training steps (default: 1000, or by --minutes with --data)"
    )
    length.add_argument(
        "--minutes", type=positive_float, help=f"let the training take about so long (default with --data: {MINUTES})"
    )
    parser.add_argument(
        "--init",
        type=existing_file,
        metavar="FILE",
        help="start from the LSKNet(-FDAM) backbone of this file, in its width",
    )
    parser.add_argument("--scenes", type=positive_int, default=180, help="generated training scenes (default: 180)")
    parser.add_argument("--seed", type=non_negative_int, default=0, help="of scenes and training (default: 0)")
    add_overwrite(parser, "the files of an earlier demo in --work-dir")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the steps; a failing one stops the tour with its exit code."""
    args = build_parser().parse_args(argv)
    work = args.work_dir
    if args.data is not None:
        check_inputs(work, [args.data, *([args.init] if args.init else [])])
        _check_layout(args.data)
    claim_folder(work, [], record="demo", overwrite=args.overwrite)
    start = time.perf_counter()
    with recorded(work, "demo"):
        _run_steps(args)
    scores = json.loads((work / "scores.json").read_text(encoding="utf-8"))
    minutes = (time.perf_counter() - start) / 60
    classes = counted(len(scores["ap"]), "class")
    print(f"\nmAP {scores['map']:.3f} over {classes} on unseen images, {minutes:.1f} minutes in all")
    print(f"submission: {work / 'submission'}.zip   pictures: {work / 'pictures'}   scores: {work / 'scores.json'}")
    return 0


def _run_steps(args: argparse.Namespace) -> None:
    """Each step as a process of its own; the first that fails ends the tour."""
    work, data = args.work_dir, args.data
    if data is None:
        data = work / "scenes"
        _step(
            "Generate scenes in DOTA's layout",
            "synthetic", "--out", data, "--train", args.scenes, "--val", max(2, args.scenes // 8),
            "--size", 512, "--gsd", 0.18, 0.28, "--seed", args.seed, "--classes", ",".join(SCENE_CLASSES),
        )  # fmt: skip
    _show_released(work, data)
    classes = _classes(data)
    size, gap = (256, 64) if args.data is None else (512, 100)
    patches = work / "patches"
    for part in ("train", "val"):
        _step(
            f"Split the {part} images into patches of {size} pixels that overlap by {gap}",
            "split", "--img-dirs", data / part / "images", "--ann-dirs", data / part / "labelTxt",
            "--sizes", size, "--gaps", gap, "--padding-value", *MEAN_COLOUR, "--out", patches / part,
            "--accept", "zero-area", "self-crossing",
        )  # fmt: skip

    config = work / "config.py"
    init = None if args.init is None else _init(args.init)
    images = _count_with_objects(patches / "train" / "annfiles")
    iters = args.iters or 1000
    if args.iters is None and (args.data is not None or args.minutes is not None):
        write_text(config, _config(data, patches, classes, iters=TIMED_STEPS, init=init))
        seconds = _seconds_a_step(config, work / "timing")
        iters = steps_for(images, args.minutes or MINUTES, seconds)
        print(f"\n-- A step takes {seconds:.2f} s here: {iters} steps, about {iters * seconds / 60:.0f} minutes")
    write_text(config, _config(data, patches, classes, iters=iters, init=init))
    print(f"\n-- {config} names the data, the classes and the schedule; its base is configs/demo/lsk_fdam_demo.py")
    print(outlook(images, iters, own_data=args.data is not None, pretrained=init is not None))
    train, test, merged = work / "train", work / "test", work / "submission"
    start = "from scratch" if init is None else f"from {args.init.name}"
    _step(
        f"Train LSKNet-FDAM with Oriented R-CNN {start}, {iters} steps",
        "train", config, "--work-dir", train, "--no-validate", "--seed", args.seed,
    )  # fmt: skip
    _step("Detect on every patch of the val images, none of which were trained on",
          "test", config, train / "latest.pth", "--work-dir", test)  # fmt: skip
    _step("Merge the patches into whole images; write the submission files and their zip",
          "merge", test / "patch_detections", "--out", merged, "--manifest", patches / "val" / "manifest.json",
          "--classes", ",".join(classes))  # fmt: skip
    _step("Check the zip as the server would", "submit", f"{merged}.zip", "--check",
          "--classes", ",".join(classes))  # fmt: skip
    _step("Score whole images", "evaluate", merged, "--gt", data / "val" / "labelTxt",
          "--classes", ",".join(classes), "--json", work / "scores.json")  # fmt: skip
    _step("Draw detections over the truth", "show", data / "val" / "images", merged,
          "--gt", data / "val" / "labelTxt", "--out", work / "pictures", "--classes", ",".join(classes))  # fmt: skip


def _show_released(work: Path, data: Path) -> None:
    """What the released model finds on some of the val images, before anything is trained on them."""
    model = config_folder() / "released" / RELEASED / RELEASED
    if not model.with_suffix(".safetensors").is_file():
        return
    images = image_files(data / "val" / "images")
    found = work / "before_training"
    classes = ("--classes", ",".join(RELEASED_CLASSES))
    _step(
        "Detect with the released model, trained on real pictures and never on these",
        "predict", f"{model}.py", f"{model}.safetensors", *images[:SHOWN], "--out", found / "detections",
    )  # fmt: skip
    write_text(found / "images.txt", "".join(f"{path.stem}\n" for path in images[:SHOWN]))
    _step(f"Draw what it found, into {found / 'pictures'}", "show", data / "val" / "images", found / "detections",
          "--out", found / "pictures", "--image-list", found / "images.txt", *classes)  # fmt: skip


def _step(what: str, *words: object) -> None:
    command = [str(word) for word in words]
    print(f"\n-- {what}\n$ fdam-rotate {shlex.join(command)}", flush=True)
    code = subprocess.run([sys.executable, "-m", "fdam_rotate.commands", *command], check=False).returncode
    if code != 0:
        raise DotaError(f"the step above ended with exit code {code}; the demo stops here")


def _check_layout(data: Path) -> None:
    for part in ("train", "val"):
        for folder in ("images", "labelTxt"):
            if not (data / part / folder).is_dir():
                raise FileNotFoundError(f"{data / part / folder} does not exist; --data takes a folder with train/ and "
                                        "val/, each with images/ and labelTxt/")  # fmt: skip


def _classes(data: Path) -> tuple[str, ...]:
    """The classes that the labels hold, in DOTA's order; others after them, by name."""
    counts: Counter[str] = Counter()
    for part in ("train", "val"):
        for labels in read_label_dir(data / part / "labelTxt", problems=[]).values():
            counts.update(labels.names)
    if not counts:
        raise DotaError(f"no labelled object in {data}/train/labelTxt or {data}/val/labelTxt")
    order = DOTA_CLASSES["v2.0"]
    return tuple(sorted(counts, key=lambda name: (order.index(name) if name in order else len(order), name)))


def _count_with_objects(folder: Path) -> int:
    """Patches with at least one object: those that are trained on."""
    return sum(path.stat().st_size > 0 for path in folder.glob("*.txt"))


def _init(checkpoint: Path) -> str:
    """What the config states of the model so that the backbone of ``checkpoint`` fits; its size is read off the file.

    Raises:
        DotaError: it holds no backbone of LSKNet.
    """
    from fdam_rotate.host.quiet import quiet_host

    quiet_host()
    from fdam_rotate.apis.checkpoints.checkpoint import load_checkpoint_file
    from fdam_rotate.apis.checkpoints.checkpoint_keys import find_state_dict
    from fdam_rotate.apis.checkpoints.convert import infer_backbone

    state, _ = find_state_dict(load_checkpoint_file(checkpoint))
    found = infer_backbone(state, "LSKNetFDAM")
    backbone = ", ".join(f"{key}={found[key]!r}" for key in ("embed_dims", "depths", "mlp_ratios"))
    return INIT.format(backbone=backbone, checkpoint=str(checkpoint.resolve()), dims=found["embed_dims"])


def _seconds_a_step(config: Path, folder: Path) -> float:
    """What a training step takes on this machine, the first ones left out."""
    _step(
        "Measure how long a step takes",
        "train", config, "--work-dir", folder, "--no-validate", "--cfg-options", "log_config.interval=4",
    )  # fmt: skip
    lines = [json.loads(line) for log in folder.glob("*.log.json") for line in log.read_text().splitlines()]
    times = [line["time"] for line in lines if line.get("mode") == "train"]
    return float(sum(times[1:]) / len(times[1:]))


def steps_for(images: int, minutes: float, seconds: float) -> int:
    """Training steps for so many patches with objects, where a step takes ``seconds`` and all may take ``minutes``."""
    wanted = max(LEAST_STEPS, -(-images * PASSES // BATCH))
    return max(1, min(wanted, int(minutes * 60 / seconds)))


def outlook(images: int, iters: int, *, own_data: bool, pretrained: bool) -> str:
    """What to expect of such a training, and what would do better."""
    passes = iters * BATCH / max(images, 1)
    lines = [
        f"What to expect: {iters} steps of {BATCH} patches are {passes:.1f} passes over the {images} training patches."
    ]
    if not own_data:
        return f"{lines[0]} 1000 steps gave mAP 0.36 to 0.40 on generated scenes."
    if pretrained:
        lines.append("Real images want 10 passes or more even from trained weights.")
    else:
        lines.append(
            "From scratch, a network this small finds little on real images: 300 steps on 521 images gave mAP 0.05."
        )
    lines.append("What would do better, best first:")
    if not pretrained:
        lines.append(
            "- INIT=FILE, a detector trained on images like these, or LSKNet's backbone from ImageNet (fdam-rotate "
            "demo --help says where it is): the network gets the file's width, and its steps take longer;"
        )
    if passes < PASSES:
        lines.append(f"- MINUTES=N with a larger N, for {PASSES} passes;")
    lines.append(
        "- a full model on a GPU for 12 to 36 epochs: the configs of configs/lsknet_fdam on this data's patches."
    )
    return "\n".join(lines)


def _config(data: Path, patches: Path, classes: tuple[str, ...], *, iters: int, init: str | None = None) -> str:
    text = CONFIG.format(
        init=init or "",
        batch=BATCH,
        base=str(config_file("demo/lsk_fdam_demo")),
        classes=list(classes),
        count=len(classes),
        patches=str(patches),
        gt=str(data / "val" / "labelTxt"),
        iters=iters,
    )
    return text + (LEARNING_RATE if init else "")
