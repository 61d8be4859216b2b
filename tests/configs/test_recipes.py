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
#: Folders of small networks, whose schedules are their own.
SMALL = {"demo", "evidence", "released"}
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
    assert {name for name in files if name.split("/")[0] not in SMALL} == set(TABLE)


@pytest.mark.parametrize("path", sorted(p for folder in SMALL for p in (CONFIGS / folder).rglob("*.py")), ids=str)
def test_small_networks_take_imagenets_statistics(path):
    steps = []
    _walk(_plain(_read(path).data), lambda node: steps.append(node) if node.get("type") == "Normalize" else None)
    assert steps
    for step in steps:
        assert step == _train_pipeline(0, round_classes=None)[5]


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
    assert cfg.checkpoint_config.interval == 1
    assert cfg.workflow == [("train", 1)]
    assert [hook["type"] for hook in cfg.log_config.hooks] == ["TextLoggerHook", "TensorboardLoggerHook"]
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
