"""The published recipes written down once more, and every config compared with its row: a value changed by mistake
in a base shows here, whatever it is derived from.

Sources. LSKNet: Li et al., ICCV 2023, arXiv 2303.09030, and its authors' configs (zcablii/LSKNet, configs/lsknet):
AdamW, 12 epochs; lr 1e-4 on 8 GPUs x 1 image (S), 2e-4 on 8 x 2 (T), 4e-4 on HRSC2016; RoI Transformer and S2A-Net
1e-4 on 8 x 2. FDAM: Chen et al., ICCV 2025, arXiv 2507.12006: FreqScale learns twice as fast, 1-D parameters do not
decay. Patches, classes and augmentation: MMRotate 0.3.4, configs/_base_/datasets/dotav1.py and tools/data/dota/split.
ImageNet's mean and standard deviation are in the order red, green, blue, and MMRotate's images turn from BGR (to_rgb).
Heads: the configs that MMRotate 0.3.4 installs with itself.
"""

from __future__ import annotations

import copy
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from mmcv import Config
from scripts import ROOT

from fdam_rotate.dota.classes import DOTA_CLASSES, resolve_classes

CONFIGS = ROOT / "configs"
DOWNLOADS = "https://download.openmmlab.com/mmrotate/v1.0/lsknet/backbones/"
DEIT = "https://dl.fbaipublicfiles.com/deit/"
MIT = "https://download.openmmlab.com/mmsegmentation/v0.5/pretrain/segformer/"
#: Backbone: (type without FDAM, its own settings, channels of its levels, pretrained weights).
BACKBONES: dict[str, tuple[str, dict[str, Any], Any, str]] = {
    "LSKNet-T": (
        "LSKNet",
        dict(embed_dims=[32, 64, 160, 256], depths=[3, 3, 5, 2], mlp_ratios=[8, 8, 4, 4], drop_rate=0.1),
        [32, 64, 160, 256],
        DOWNLOADS + "lsk_t_backbone-2ef8a593.pth",
    ),
    "LSKNet-S": (
        "LSKNet",
        dict(embed_dims=[64, 128, 320, 512], depths=[2, 2, 4, 2], mlp_ratios=[8, 8, 4, 4], drop_rate=0.1),
        [64, 128, 320, 512],
        DOWNLOADS + "lsk_s_backbone-e9d2e551.pth",
    ),
    "MiT-B0": ("MiT", dict(arch="b0"), [32, 64, 160, 256], MIT + "mit_b0_20220624-7e0fe6dd.pth"),
    "MiT-B2": ("MiT", dict(arch="b2"), [64, 128, 320, 512], MIT + "mit_b2_20220624-66e8bf70.pth"),
    "ViT-S": ("ViT", dict(arch="small", img_size=224), 384, DEIT + "deit_3_small_224_21k.pth"),
    "ViT-B": ("ViT", dict(arch="base", img_size=224), 768, DEIT + "deit_3_base_224_21k.pth"),
}
DROP_PATH = {"LSKNet-T": 0.1, "LSKNet-S": 0.1, "MiT-B0": 0.1, "MiT-B2": 0.1, "ViT-S": 0.05, "ViT-B": 0.15}
#: Data: (folder, classes, whole-image truth of val).
DATA = {
    "v1.0": ("data/split_ss_dota/", "v1.0", "data/DOTA/val/labelTxt/"),
    "v1.0 ms": ("data/split_ms_dota/", "v1.0", "data/DOTA/val/labelTxt/"),
    "v1.5": ("data/split_ss_dota-v1.5/", "v1.5", "data/DOTA-v1.5/val/labelTxt/"),
    "v1.5 ms": ("data/split_ms_dota-v1.5/", "v1.5", "data/DOTA-v1.5/val/labelTxt/"),
    "v2.0": ("data/split_ss_dota-v2.0/", "v2.0", "data/DOTA-v2.0/val/labelTxt/"),
    "v2.0 ms": ("data/split_ms_dota-v2.0/", "v2.0", "data/DOTA-v2.0/val/labelTxt/"),
}
#: Epochs: (steps of the learning rate, epochs between validations).
SCHEDULES = {12: ([8, 11], 1), 36: ([24, 33], 3)}
ANGLES = {"R3Det": "oc", "S2ANet": "le135"}  # else le90


class Row(NamedTuple):
    """One config; the defaults are LSKNet-S's published single-scale recipe without FDAM."""

    backbone: str = "LSKNet-S"
    data: str = "v1.0"
    trained_on: str = "train"
    epochs: int = 12
    detector: str = "OrientedRCNN"
    neck: str = "FPN"
    fdam: tuple[bool, bool] | None = None  # AttInv, FreqScale in the backbone
    rule: bool = False  # FDAM's rule for the optimizer
    lr: float = 1e-4
    base_batch: int = 8
    images: int = 1
    accumulate: int = 1


S = Row()
S_FDAM = Row(fdam=(True, True), neck="FDAMFPN", rule=True)
T = Row("LSKNet-T", lr=2e-4, base_batch=16, images=2)
T_FDAM = T._replace(fdam=(True, True), neck="FDAMFPN", rule=True)
TABLE: dict[str, Row] = {
    "freqfusion/lsk_s_fdam_freqfusion_fpn_1x_dota_le90": S_FDAM._replace(neck="FreqFusionFPN"),
    "freqfusion/lsk_s_freqfusion_fpn_1x_dota_le90": S._replace(neck="FreqFusionFPN"),
    "lsknet/lsk_s_ema_fpn_1x_dota_ms_le90": S._replace(data="v1.0 ms", trained_on="trainval", lr=2e-4),
    "lsknet/lsk_s_fpn_1x_dota_le90": S,
    "lsknet/lsk_s_fpn_1x_dota_ms_le90": S._replace(data="v1.0 ms"),
    "lsknet/lsk_s_fpn_1x_dota_ms_trainval_le90": S._replace(data="v1.0 ms", trained_on="trainval"),
    "lsknet/lsk_s_fpn_1x_dota_one_gpu_le90": S._replace(images=2, accumulate=4),
    "lsknet/lsk_s_fpn_1x_dota_trainval_le90": S._replace(trained_on="trainval"),
    "lsknet/lsk_s_fpn_1x_dotav15_le90": S._replace(data="v1.5"),
    "lsknet/lsk_s_fpn_1x_dotav15_ms_le90": S._replace(data="v1.5 ms"),
    "lsknet/lsk_s_fpn_1x_dotav15_trainval_le90": S._replace(data="v1.5", trained_on="trainval"),
    "lsknet/lsk_s_fpn_1x_dotav2_le90": S._replace(data="v2.0"),
    "lsknet/lsk_s_fpn_1x_dotav2_ms_le90": S._replace(data="v2.0 ms"),
    "lsknet/lsk_s_fpn_1x_dotav2_trainval_le90": S._replace(data="v2.0", trained_on="trainval"),
    "lsknet/lsk_s_fpn_3x_dota_le90": S._replace(epochs=36),
    "lsknet/lsk_s_fpn_3x_dota_trainval_le90": S._replace(epochs=36, trained_on="trainval"),
    "lsknet/lsk_s_fpn_3x_hrsc_le90": S._replace(data="hrsc", epochs=36, lr=4e-4, images=2),
    "lsknet/lsk_s_fpn_3x_hrsc_trainval_le90": S._replace(
        data="hrsc", epochs=36, lr=4e-4, images=2, trained_on="trainval"
    ),
    "lsknet/lsk_t_fpn_1x_dota_le90": T,
    "lsknet/lsk_t_fpn_1x_dota_ms_trainval_le90": T._replace(data="v1.0 ms", trained_on="trainval"),
    "lsknet/lsk_t_fpn_3x_dota_le90": T._replace(epochs=36),
    "lsknet_fdam/lsk_s_fdam_attinv_only_1x_dota_le90": S_FDAM._replace(fdam=(True, False)),
    "lsknet_fdam/lsk_s_fdam_fpn_1x_dota_le90": S_FDAM,
    "lsknet_fdam/lsk_s_fdam_fpn_1x_dota_ms_trainval_le90": S_FDAM._replace(data="v1.0 ms", trained_on="trainval"),
    "lsknet_fdam/lsk_s_fdam_fpn_1x_dota_one_gpu_le90": S_FDAM._replace(images=2, accumulate=4),
    "lsknet_fdam/lsk_s_fdam_fpn_1x_dota_trainval_le90": S_FDAM._replace(trained_on="trainval"),
    "lsknet_fdam/lsk_s_fdam_fpn_1x_dotav15_le90": S_FDAM._replace(data="v1.5"),
    "lsknet_fdam/lsk_s_fdam_fpn_1x_dotav15_trainval_le90": S_FDAM._replace(data="v1.5", trained_on="trainval"),
    "lsknet_fdam/lsk_s_fdam_fpn_1x_dotav2_le90": S_FDAM._replace(data="v2.0"),
    "lsknet_fdam/lsk_s_fdam_fpn_1x_dotav2_trainval_le90": S_FDAM._replace(data="v2.0", trained_on="trainval"),
    "lsknet_fdam/lsk_s_fdam_fpn_3x_dota_le90": S_FDAM._replace(epochs=36),
    "lsknet_fdam/lsk_s_fdam_fpn_3x_dota_trainval_le90": S_FDAM._replace(epochs=36, trained_on="trainval"),
    "lsknet_fdam/lsk_s_fdam_fpn_3x_hrsc_le90": S_FDAM._replace(data="hrsc", epochs=36, lr=4e-4, images=2),
    "lsknet_fdam/lsk_s_fdam_freqscale_only_1x_dota_le90": S_FDAM._replace(fdam=(False, True)),
    "lsknet_fdam/lsk_s_fdam_plain_fpn_1x_dota_le90": S_FDAM._replace(neck="FPN"),
    "lsknet_fdam/lsk_s_plain_fdam_fpn_1x_dota_le90": S._replace(neck="FDAMFPN", rule=True),
    "lsknet_fdam/lsk_t_fdam_fpn_1x_dota_le90": T_FDAM,
    "mit_fdam/mit_b0_fdam_fpn_1x_dota_le90": Row("MiT-B0", neck="FDAMFPN", rule=True),
    "mit_fdam/mit_b2_fdam_fpn_1x_dota_le90": Row("MiT-B2", neck="FDAMFPN", rule=True),
    "r3det/r3det_lsk_s_fdam_fpn_1x_dota_oc": S_FDAM._replace(detector="R3Det", images=2),
    "r3det/r3det_lsk_s_fpn_1x_dota_oc": S._replace(detector="R3Det", images=2),
    "r3det/r3det_lsk_t_fpn_1x_dota_oc": Row("LSKNet-T", detector="R3Det", images=2),
    "roi_trans/roi_trans_lsk_s_fdam_fpn_1x_dota_le90": S_FDAM._replace(
        detector="RoITransformer", base_batch=16, images=2
    ),
    "roi_trans/roi_trans_lsk_s_fpn_1x_dota_le90": S._replace(detector="RoITransformer", base_batch=16, images=2),
    "roi_trans/roi_trans_lsk_t_fpn_1x_dota_le90": Row("LSKNet-T", detector="RoITransformer", base_batch=16, images=2),
    "rotated_fcos/rotated_fcos_lsk_s_fdam_fpn_1x_dota_le90": S_FDAM._replace(detector="RotatedFCOS", images=2),
    "rotated_fcos/rotated_fcos_lsk_s_fpn_1x_dota_le90": S._replace(detector="RotatedFCOS", images=2),
    "rotated_retinanet/rotated_retinanet_obb_lsk_s_fdam_fpn_1x_dota_le90": S_FDAM._replace(
        detector="RotatedRetinaNet", images=2
    ),
    "rotated_retinanet/rotated_retinanet_obb_lsk_s_fpn_1x_dota_le90": S._replace(detector="RotatedRetinaNet", images=2),
    "s2anet/s2anet_lsk_s_fdam_fpn_1x_dota_le135": S_FDAM._replace(detector="S2ANet", base_batch=16, images=2),
    "s2anet/s2anet_lsk_s_fpn_1x_dota_le135": S._replace(detector="S2ANet", base_batch=16, images=2),
    "s2anet/s2anet_lsk_t_fpn_1x_dota_le135": Row("LSKNet-T", detector="S2ANet", base_batch=16, images=2),
    "vit_fdam/vit_b_fdam_simple_pyramid_1x_dota_le90": Row("ViT-B", neck="SimplePyramid", rule=True),
    "vit_fdam/vit_s_fdam_simple_pyramid_1x_dota_le90": Row("ViT-S", neck="SimplePyramid", rule=True),
}


class Small(NamedTuple):
    """A network of a quarter of LSKNet-S's width, from scratch; docs/evidence.md, and the README of the released one.

    The defaults are the plain side of the comparison on NWPU VHR-10.
    """

    fdam: tuple[bool, bool] | None = None
    neck: str = "FPN"
    steps: int = 2500
    warmup: int = 100
    data: str = "vhr10"
    scales: tuple[float, float] | None = (0.4, 0.6)  # drawn in training; tested at a half
    turned: float = 0.0  # share of training images
    checkpoints: int = 500
    lr: float = 1e-3
    rare: float | None = None  # images with classes in a smaller share of all are seen more often


BALANCED = Small(lr=8e-4, steps=6000, warmup=50, scales=(0.375, 0.625), turned=0.4, rare=0.3)
SMALL: dict[str, Small] = {
    "demo/lsk_fdam_demo": Small((True, True), "FDAMFPN", 1000, 50, "v1.0", None, checkpoints=1000),
    "evidence/hit_uav_fdam": Small((True, True), "FDAMFPN", data="hit_uav"),
    "evidence/hit_uav_lsk": Small(data="hit_uav"),
    "evidence/vhr10_attinv": Small((True, False)),
    "evidence/vhr10_balanced": BALANCED,
    "evidence/vhr10_balanced_attinv": BALANCED._replace(fdam=(True, False)),
    "evidence/vhr10_balanced_fdam": BALANCED._replace(fdam=(True, True), neck="FDAMFPN"),
    "evidence/vhr10_balanced_fdamfpn": BALANCED._replace(neck="FDAMFPN"),
    "evidence/vhr10_balanced_freqscale": BALANCED._replace(fdam=(False, True)),
    "evidence/vhr10_fdam": Small((True, True), "FDAMFPN"),
    "evidence/vhr10_fdamfpn": Small(neck="FDAMFPN"),
    "evidence/vhr10_freqscale": Small((False, True)),
    "evidence/vhr10_lsk": Small(),
    "released/vhr10_small/vhr10_small": Small(steps=1200, warmup=200, scales=(0.375, 0.625), turned=0.4),
}
VHR10 = [
    "plane", "ship", "storage-tank", "baseball-diamond", "tennis-court", "basketball-court", "ground-track-field",
    "harbor", "bridge", "small-vehicle",
]  # fmt: skip
SMALL_CLASSES: dict[str, Any] = {"vhr10": VHR10, "hit_uav": ["car", "bicycle"], "v1.0": "v1.0"}
SMALL_ROWS = pytest.mark.parametrize(("name", "row"), SMALL.items(), ids=list(SMALL))
ROWS = pytest.mark.parametrize(("name", "row"), TABLE.items(), ids=list(TABLE))


def _read(path: Path) -> Config:
    return Config.fromfile(str(path), import_custom_modules=False)


class _Configs(dict[str, Config]):
    def __missing__(self, name: str) -> Config:
        self[name] = _read(CONFIGS / f"{name}.py")
        return self[name]


@pytest.fixture(scope="module")
def configs() -> _Configs:
    """By name, each read once."""
    return _Configs()


def test_the_table_knows_every_config():
    files = {str(p.relative_to(CONFIGS).with_suffix("")) for p in CONFIGS.rglob("*.py") if "_base_" not in p.parts}
    assert files == {*TABLE, *SMALL}


@ROWS
def test_schedule(name, row, configs):
    cfg = configs[name]
    steps, interval = SCHEDULES[row.epochs]
    optimizer = dict(type="AdamW", lr=row.lr, betas=(0.9, 0.999), weight_decay=0.05)
    if row.rule:
        optimizer["constructor"] = "FDAMOptimizerConstructor"
    assert cfg.optimizer == optimizer
    clip = dict(grad_clip=dict(max_norm=35, norm_type=2))
    if row.accumulate > 1:
        clip.update(type="GradientCumulativeOptimizerHook", cumulative_iters=row.accumulate)
    assert cfg.optimizer_config == clip
    assert cfg.lr_config == dict(
        policy="step", warmup="linear", warmup_iters=500 * row.accumulate, warmup_ratio=1 / 3, step=steps
    )
    assert cfg.runner == dict(type="EpochBasedRunner", max_epochs=row.epochs)
    assert cfg.evaluation == dict(interval=interval, metric="mAP", save_best="auto")
    assert cfg.auto_scale_lr == dict(enable=True, base_batch_size=row.base_batch)
    assert cfg.data.samples_per_gpu == row.images
    if row.accumulate > 1:
        assert row.images * row.accumulate == row.base_batch, "one GPU takes the published batch"
    assert cfg.checkpoint_config == dict(interval=1, max_keep_ckpts=3)
    assert cfg.workflow == [("train", 1)]
    assert cfg.log_config == dict(interval=50, hooks=[dict(type="TextLoggerHook"), dict(type="TensorboardLoggerHook")])
    assert (cfg.dist_params, cfg.opencv_num_threads, cfg.mp_start_method) == (dict(backend="nccl"), 0, "fork")
    assert cfg.data.workers_per_gpu == 2
    assert cfg.get("fp16") is None
    assert cfg.log_level == "INFO"
    assert cfg.resume_from is None
    averaged = name == "lsknet/lsk_s_ema_fpn_1x_dota_ms_le90"
    start = "work_dirs/lsk_s_fpn_1x_dota_ms_trainval_le90/latest.pth" if averaged else None
    assert cfg.load_from == start
    hooks = [dict(type="ExpMomentumEMAHook", total_iter=8541 * 12, priority=49)] if averaged else None
    assert cfg.get("custom_hooks") == hooks


@ROWS
def test_backbone_and_neck(name, row, configs):
    backbone, neck = configs[name].model.backbone, configs[name].model.neck
    kind, own, channels, weights = BACKBONES[row.backbone]
    expected = dict(
        type=kind, **own, drop_path_rate=DROP_PATH[row.backbone], init_cfg=dict(type="Pretrained", checkpoint=weights)
    )
    if kind == "LSKNet":
        expected["norm_cfg"] = dict(type="SyncBN", requires_grad=True)
    else:
        expected["type"] += "FDAM"  # with FDAM in their classes
    if row.fdam is not None:
        expected.update(type="LSKNetFDAM", att_inv=row.fdam[0], freq_scale=row.fdam[1])
    assert backbone == expected
    expected = dict(type=row.neck, in_channels=channels, out_channels=256, num_outs=5)
    if row.detector == "RotatedFCOS":
        expected.update(start_level=1, add_extra_convs="on_output", relu_before_extra_convs=True)
    elif row.detector in ("R3Det", "S2ANet", "RotatedRetinaNet"):
        expected.update(start_level=1, add_extra_convs="on_input")
    assert neck == expected


def _train_pipeline(size: int, *, round_classes: list[int] | None) -> list[dict[str, Any]]:
    turn = dict(type="PolyRandomRotate", rotate_ratio=0.5, angles_range=180, auto_bound=False)
    if round_classes is not None:
        turn["rect_classes"] = round_classes
    return [
        dict(type="LoadImageFromFile"),
        dict(type="LoadAnnotations", with_bbox=True),
        dict(type="RResize", img_scale=(size, size)),
        dict(type="RRandomFlip", flip_ratio=[0.25] * 3, direction=["horizontal", "vertical", "diagonal"]),
        turn,
        dict(type="Normalize", mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True),
        dict(type="Pad", size_divisor=32),
        dict(type="DefaultFormatBundle"),
        dict(type="Collect", keys=["img", "gt_bboxes", "gt_labels"]),
    ]


def _test_pipeline(size: int) -> list[dict[str, Any]]:
    steps = _train_pipeline(size, round_classes=None)
    inner = [dict(type="RResize"), *steps[5:8], dict(type="Collect", keys=["img"])]
    return [steps[0], dict(type="FlipTurnAug", img_scale=(size, size), flip=False, transforms=inner)]


@ROWS
def test_data(name, row, configs):
    data = configs[name].data
    angle = ANGLES.get(row.detector, "le90")
    sets = {key: dict(data[key]) for key in ("train", "val", "test") if data.get(key) is not None}
    if row.data == "hrsc":
        common = dict(
            type="HRSC2016Dataset",
            version=angle,
            data_root="data/hrsc/",
            ann_dir="FullDataSet/Annotations/",
            img_prefix="FullDataSet/AllImages/",
        )
        expected = {
            part: dict(common, ann_file=f"ImageSets/{part}.txt", pipeline=_test_pipeline(800))
            for part in ("train", "val", "test")
        }
        expected["train"]["pipeline"] = _train_pipeline(800, round_classes=None)
        if row.trained_on == "trainval":
            expected["train"]["ann_file"] = "ImageSets/trainval.txt"
    else:
        root, classes, truth = DATA[row.data]
        assert [DOTA_CLASSES[classes][i] for i in (9, 11)] == ["storage-tank", "roundabout"]
        common = dict(type="DOTAPatchDataset", classes=classes, version=angle, data_root=root)
        expected = {
            part: dict(
                common,
                ann_file=f"{part}/annfiles/",
                img_prefix=f"{part}/images/",
                pipeline=_test_pipeline(1024),
            )
            for part in ("train", "val", "test")
        }
        expected["train"]["pipeline"] = _train_pipeline(1024, round_classes=[9, 11])
        expected["val"]["gt_dir"] = truth
        expected["test"]["ann_file"] = "test/images/"
        if row.trained_on == "trainval":
            expected["train"].update(
                ann_file=["train/annfiles/", "val/annfiles/"], img_prefix=["train/images/", "val/images/"]
            )
    if row.trained_on == "trainval":
        assert data.val is None
        del expected["val"]
    assert sets == expected


HOST = {
    "OrientedRCNN": "oriented_rcnn/oriented_rcnn_r50_fpn_1x_dota_le90.py",
    "RoITransformer": "roi_trans/roi_trans_r50_fpn_1x_dota_le90.py",
    "R3Det": "r3det/r3det_r50_fpn_1x_dota_oc.py",
    "S2ANet": "s2anet/s2anet_r50_fpn_1x_dota_le135.py",
    "RotatedRetinaNet": "rotated_retinanet/rotated_retinanet_obb_r50_fpn_1x_dota_le90.py",
    "RotatedFCOS": "rotated_fcos/rotated_fcos_r50_fpn_1x_dota_le90.py",
}


def _plain(node: Any) -> Any:
    """Dicts and lists alone; a number that is one of 1.0 and 1 is the same."""
    if isinstance(node, dict):
        return {key: _plain(value) for key, value in node.items()}
    return [_plain(value) for value in node] if isinstance(node, (list, tuple)) else node


def _heads_of_the_host(row: Row, classes: int) -> dict[str, Any]:
    """The host's own settings with what differs here, each difference with its reason."""
    (package,) = find_spec("mmrotate").submodule_search_locations
    model = _plain(_read(Path(package) / ".mim" / "configs" / HOST[row.detector]).model)
    for key in ("backbone", "neck"):
        del model[key]
    _walk(model, lambda node: node.update(num_classes=classes) if "num_classes" in node else None)
    # matched on the CPU from so many objects on, so that memory on the GPU stays bounded
    _walk(model, lambda node: node.update(gpu_assign_thr=200) if node.get("type") == "MaxIoUAssigner" else None)
    if row.detector == "RoITransformer":
        del model["test_cfg"]["rcnn"]["nms"]["type"]  # 'le90': suppression does not look at it
    if row.detector == "R3Det":  # LSKNet's authors refine twice, the second time with stricter thresholds
        stricter = copy.deepcopy(model["train_cfg"]["sr"][0])
        stricter["assigner"].update(pos_iou_thr=0.7, neg_iou_thr=0.6)
        model.update(num_refine_stages=2, frm_cfgs=model["frm_cfgs"] * 2, refine_heads=model["refine_heads"] * 2)
        model["train_cfg"].update(sr=[*model["train_cfg"]["sr"], stricter], stage_loss_weights=[1.0, 1.0])
    return model


def _walk(node: Any, change: Any) -> None:
    if isinstance(node, dict):
        change(node)
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _walk(value, change)


@ROWS
def test_heads_are_those_of_the_host(name, row, configs):
    cfg = configs[name]
    model = _plain(cfg.model)
    for key in ("backbone", "neck"):
        del model[key]
    train = cfg.data.train
    classes = 1 if row.data == "hrsc" else len(resolve_classes(train.classes))
    assert model == _heads_of_the_host(row, classes)


# ---- small networks


@SMALL_ROWS
def test_schedule_of_a_small_network(name, row, configs):
    cfg = configs[name]
    assert cfg.optimizer == dict(
        type="AdamW", lr=row.lr, betas=(0.9, 0.999), weight_decay=0.05, constructor="FDAMOptimizerConstructor"
    )
    assert cfg.optimizer_config == dict(grad_clip=dict(max_norm=35, norm_type=2))
    assert cfg.lr_config == dict(
        policy="CosineAnnealing",
        by_epoch=False,
        min_lr=1e-5,
        warmup="linear",
        warmup_iters=row.warmup,
        warmup_ratio=0.1,
    )
    assert cfg.runner == dict(type="IterBasedRunner", max_iters=row.steps)
    assert cfg.evaluation == dict(interval=row.steps, metric="mAP", save_best="auto"), "at the end"
    assert cfg.checkpoint_config.interval == row.checkpoints
    assert cfg.auto_scale_lr.enable is False
    assert cfg.data.samples_per_gpu == (1 if row.data == "v1.0" else 2)  # fdam-rotate demo sets its own
    assert (cfg.get("fp16"), cfg.load_from, cfg.resume_from, cfg.get("custom_hooks")) == (None,) * 4


@SMALL_ROWS
def test_network_of_a_small_network(name, row, configs):
    model = _plain(configs[name].model)
    expected: dict[str, Any] = dict(
        type="LSKNet", embed_dims=[16, 32, 80, 128], depths=[2] * 4, mlp_ratios=[4] * 4, drop_rate=0.0,
        drop_path_rate=0.0, norm_cfg=dict(type="BN", requires_grad=True), init_cfg=None,
    )  # fmt: skip
    if row.fdam is not None:
        expected.update(type="LSKNetFDAM", att_inv=row.fdam[0], freq_scale=row.fdam[1])
    assert model.pop("backbone") == expected
    neck: dict[str, Any] = dict(
        type=row.neck, in_channels=[16, 32, 80, 128], out_channels=64, num_outs=5, norm_cfg=dict(type="BN")
    )
    demo = row.data == "v1.0"
    if not demo:
        neck.update(start_level=1, num_outs=4)
    assert model.pop("neck") == neck
    heads = _heads_of_the_host(Row(), len(resolve_classes(SMALL_CLASSES[row.data])))
    heads["rpn_head"].update(in_channels=64, feat_channels=64)
    heads["roi_head"]["bbox_roi_extractor"]["out_channels"] = 64
    heads["roi_head"]["bbox_head"].update(in_channels=64, fc_out_channels=128 if demo else 256)
    heads["train_cfg"]["rpn_proposal"].update(nms_pre=500, max_per_img=300)
    heads["test_cfg"]["rpn"].update(nms_pre=500, max_per_img=300)
    heads["train_cfg"]["rcnn"]["sampler"]["num"] = 64 if demo else 96
    if not demo:  # from stride 8
        heads["train_cfg"]["rpn"]["sampler"]["num"] = 128
        heads["rpn_head"]["anchor_generator"].update(scales=[3], strides=[8, 16, 32, 64])
        heads["roi_head"]["bbox_roi_extractor"]["featmap_strides"] = [8, 16, 32, 64]
    assert model == heads


@SMALL_ROWS
def test_data_of_a_small_network(name, row, configs):
    data = _plain(configs[name].data)
    if row.rare is not None:
        wrapper = data["train"]
        data["train"] = wrapper.pop("dataset")
        assert wrapper == dict(type="ClassBalancedDataset", oversample_thr=row.rare)
    load, labels, _, flip, turn, *rest = _train_pipeline(0, round_classes=None)
    train = [load, labels, flip, *rest]
    if row.scales is not None:
        low, high = row.scales
        train[2:2] = [dict(type="DrawScale", low=pytest.approx(low), high=pytest.approx(high)), dict(type="RResize")]
    if row.turned:
        train.insert(5, {**turn, "rotate_ratio": row.turned})
    assert data["train"]["pipeline"] == train
    _, views = _test_pipeline(0)
    del views["img_scale"]
    views["scale_factor"] = 1.0
    if row.data != "v1.0":
        views.update(type="MultiScaleFlipAug", scale_factor=0.5)
    roots = {"vhr10": "work_dirs/vhr10/", "hit_uav": "work_dirs/hit_uav/", "v1.0": "data/split_ss_dota/"}
    truth = "data/DOTA/val/labelTxt/" if row.data == "v1.0" else f"../shared/real/{row.data}/val/labelTxt/"
    for part in ("train", "val", "test"):
        found = data[part]
        images = "val" if part == "test" and row.data != "v1.0" else part  # scored on its merged images
        assert found["data_root"] == roots[row.data]
        assert found["classes"] == SMALL_CLASSES[row.data]
        assert (found["type"], found["version"]) == ("DOTAPatchDataset", "le90")
        assert found["ann_file"] == f"{images}/{'images' if part == 'test' else 'annfiles'}/"
        assert found["img_prefix"] == f"{images}/images/"
        assert found.get("gt_dir") == (truth if part == "val" else None)
        if part != "train":
            assert found["pipeline"] == [load, views]
