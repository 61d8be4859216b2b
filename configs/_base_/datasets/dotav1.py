# DOTA-v1.0 patches of 1024 with overlap 200, trained on `train` and validated on `val`: never on the same images.
# ann_file and img_prefix lie under data_root.
dataset_type = 'DOTAPatchDataset'
data_root = 'data/split_ss_dota/'
angle_version = 'le90'  # the data set hands it to the steps that turn boxes
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RResize', img_scale=(1024, 1024)),
    dict(
        type='RRandomFlip',
        flip_ratio=[0.25, 0.25, 0.25],
        direction=['horizontal', 'vertical', 'diagonal']),
    dict(
        type='PolyRandomRotate',
        rotate_ratio=0.5,
        angles_range=180,
        auto_bound=False,
        rect_classes=[9, 11]),  # storage-tank and roundabout: round, so that their box does not turn
    dict(type='Normalize', **img_norm_cfg),
    dict(type='Pad', size_divisor=32),
    dict(type='DefaultFormatBundle'),
    dict(type='Collect', keys=['img', 'gt_bboxes', 'gt_labels']),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='FlipTurnAug',
        img_scale=(1024, 1024),
        flip=False,
        transforms=[
            dict(type='RResize'),
            dict(type='Normalize', **img_norm_cfg),
            dict(type='Pad', size_divisor=32),
            dict(type='DefaultFormatBundle'),
            dict(type='Collect', keys=['img']),
        ]),
]
part = dict(type=dataset_type, classes='v1.0', version=angle_version, data_root=data_root)
data = dict(
    samples_per_gpu=2,
    workers_per_gpu=2,
    train=dict(ann_file='train/annfiles/', img_prefix='train/images/', pipeline=train_pipeline, **part),
    val=dict(
        ann_file='val/annfiles/',
        img_prefix='val/images/',
        gt_dir='data/DOTA/val/labelTxt/',  # whole-image truth; without it patches are scored, and called so
        pipeline=test_pipeline,
        **part),
    test=dict(
        ann_file='test/images/',  # no labels: every image is tested
        img_prefix='test/images/',
        pipeline=test_pipeline,
        **part))
# As papers train for the test server: data = dict(train={{_base_.trainval}}, val=None)
trainval = dict(
    ann_file=['train/annfiles/', 'val/annfiles/'], img_prefix=['train/images/', 'val/images/'])
