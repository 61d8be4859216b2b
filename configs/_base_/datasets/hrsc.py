# HRSC2016 as its authors pack it, ships as one class, images resized to 800 x 800; trained on `train`, validated on
# `val`.
dataset_type = 'HRSC2016Dataset'
data_root = 'data/hrsc/'
angle_version = 'le90'  # the data set hands it to the steps that turn boxes
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RResize', img_scale=(800, 800)),
    dict(
        type='RRandomFlip',
        flip_ratio=[0.25, 0.25, 0.25],
        direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='PolyRandomRotate', rotate_ratio=0.5, angles_range=180, auto_bound=False),
    dict(type='Normalize', **img_norm_cfg),
    dict(type='Pad', size_divisor=32),
    dict(type='DefaultFormatBundle'),
    dict(type='Collect', keys=['img', 'gt_bboxes', 'gt_labels']),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='FlipTurnAug',
        img_scale=(800, 800),
        flip=False,
        transforms=[
            dict(type='RResize'),
            dict(type='Normalize', **img_norm_cfg),
            dict(type='Pad', size_divisor=32),
            dict(type='DefaultFormatBundle'),
            dict(type='Collect', keys=['img']),
        ]),
]
part = dict(
    type=dataset_type,
    version=angle_version,
    data_root=data_root,
    ann_dir='FullDataSet/Annotations/',
    img_prefix='FullDataSet/AllImages/')
data = dict(
    samples_per_gpu=2,
    workers_per_gpu=2,
    train=dict(ann_file='ImageSets/train.txt', pipeline=train_pipeline, **part),
    val=dict(ann_file='ImageSets/val.txt', pipeline=test_pipeline, **part),
    test=dict(ann_file='ImageSets/test.txt', pipeline=test_pipeline, **part))
