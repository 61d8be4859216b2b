# The released small detector: the plain network of the comparison (configs/evidence), trained longer and on turned
# images. See README.md beside this file.
_base_ = '../../evidence/vhr10_lsk.py'

scale = 0.5
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='DrawScale', low=0.75 * scale, high=1.25 * scale),
    dict(type='RResize'),
    dict(type='RRandomFlip', flip_ratio=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='PolyRandomRotate', rotate_ratio=0.4, angles_range=180, auto_bound=False),
    dict(type='Normalize', **img_norm_cfg),
    dict(type='Pad', size_divisor=32),
    dict(type='DefaultFormatBundle'),
    dict(type='Collect', keys=['img', 'gt_bboxes', 'gt_labels']),
]
data = dict(train=dict(pipeline=train_pipeline))
lr_config = dict(warmup_iters=200)
runner = dict(max_iters=1200)
evaluation = dict(interval=1200)
