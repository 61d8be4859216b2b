# Does FDAM help? The plain side: LSKNet at a quarter of LSKNet-S's width, Oriented R-CNN with small heads, from
# scratch, NWPU VHR-10 at half its resolution; small enough for one CPU core. See docs/evidence.md.
_base_ = '../lsknet/lsk_s_fpn_1x_dota_le90.py'

classes = ('plane', 'ship', 'storage-tank', 'baseball-diamond', 'tennis-court', 'basketball-court',
           'ground-track-field', 'harbor', 'bridge', 'small-vehicle')
scale = 0.5
model = dict(
    backbone=dict(
        embed_dims=[16, 32, 80, 128],
        depths=[2, 2, 2, 2],
        mlp_ratios=[4, 4, 4, 4],
        drop_rate=0.0,
        drop_path_rate=0.0,
        norm_cfg=dict(type='BN', requires_grad=True),
        init_cfg=None),
    # From stride 8, since the fine level takes half of a step's time. Normalised, because a plain FPN learns several
    # times slower from scratch.
    neck=dict(in_channels=[16, 32, 80, 128], out_channels=64, start_level=1, num_outs=4, norm_cfg=dict(type='BN')),
    rpn_head=dict(
        in_channels=64,
        feat_channels=64,
        anchor_generator=dict(scales=[3], strides=[8, 16, 32, 64])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64, featmap_strides=[8, 16, 32, 64]),
        bbox_head=dict(in_channels=64, fc_out_channels=256, num_classes=10)),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=128)),
        rpn_proposal=dict(nms_pre=500, max_per_img=300),
        rcnn=dict(sampler=dict(num=96))),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=300)))
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='DrawScale', low=0.8 * scale, high=1.2 * scale),
    dict(type='RResize'),
    dict(type='RRandomFlip', flip_ratio=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='Normalize', **img_norm_cfg),
    dict(type='Pad', size_divisor=32),
    dict(type='DefaultFormatBundle'),
    dict(type='Collect', keys=['img', 'gt_bboxes', 'gt_labels']),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='MultiScaleFlipAug',
        scale_factor=scale,
        flip=False,
        transforms=[
            dict(type='RResize'),
            dict(type='Normalize', **img_norm_cfg),
            dict(type='Pad', size_divisor=32),
            dict(type='DefaultFormatBundle'),
            dict(type='Collect', keys=['img']),
        ]),
]
part = dict(classes=classes, data_root='work_dirs/vhr10/')
data = dict(
    samples_per_gpu=2,
    workers_per_gpu=0,
    train=dict(pipeline=train_pipeline, **part),
    val=dict(pipeline=test_pipeline, gt_dir='../shared/real/vhr10/val/labelTxt/', **part),
    test=dict(pipeline=test_pipeline, ann_file='val/images/', img_prefix='val/images/', **part))
optimizer = dict(lr=1e-3, constructor='FDAMOptimizerConstructor')  # no weight decay on 1-D parameters, on any side
auto_scale_lr = dict(enable=False)
lr_config = dict(
    _delete_=True, policy='CosineAnnealing', by_epoch=False, min_lr=1e-5, warmup='linear', warmup_iters=100,
    warmup_ratio=0.1)
runner = dict(_delete_=True, type='IterBasedRunner', max_iters=2500)
evaluation = dict(interval=2500)
checkpoint_config = dict(interval=500)
