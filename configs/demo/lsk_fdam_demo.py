# LSKNet-FDAM small enough to learn from scratch on two CPU cores in a few minutes: a quarter of LSKNet-S's width, an
# FPN of 64 channels, fewer proposals, many small steps. For a look at the whole path, not for results.
_base_ = '../lsknet_fdam/lsk_s_fdam_fpn_1x_dota_le90.py'

model = dict(
    backbone=dict(
        embed_dims=[16, 32, 80, 128],
        depths=[2, 2, 2, 2],
        mlp_ratios=[4, 4, 4, 4],
        drop_rate=0.0,
        drop_path_rate=0.0,
        norm_cfg=dict(type='BN', requires_grad=True),
        init_cfg=None),
    # normalised: from scratch, a plain FPN learns several times slower
    neck=dict(in_channels=[16, 32, 80, 128], out_channels=64, norm_cfg=dict(type='BN')),
    rpn_head=dict(in_channels=64, feat_channels=64),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64),
        bbox_head=dict(in_channels=64, fc_out_channels=128)),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=300), rcnn=dict(sampler=dict(num=64))),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=300)))
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
train_pipeline = [  # no resizing: patches of any size are taken as they are
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RRandomFlip', flip_ratio=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='Normalize', **img_norm_cfg),
    dict(type='Pad', size_divisor=32),
    dict(type='DefaultFormatBundle'),
    dict(type='Collect', keys=['img', 'gt_bboxes', 'gt_labels']),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='FlipTurnAug',
        scale_factor=1.0,
        flip=False,
        transforms=[
            dict(type='RResize'),
            dict(type='Normalize', **img_norm_cfg),
            dict(type='Pad', size_divisor=32),
            dict(type='DefaultFormatBundle'),
            dict(type='Collect', keys=['img']),
        ]),
]
data = dict(train=dict(pipeline=train_pipeline), val=dict(pipeline=test_pipeline), test=dict(pipeline=test_pipeline))
optimizer = dict(lr=1e-3)
auto_scale_lr = dict(enable=False)
lr_config = dict(
    _delete_=True, policy='CosineAnnealing', by_epoch=False, min_lr=1e-5, warmup='linear', warmup_iters=50,
    warmup_ratio=0.1)
runner = dict(_delete_=True, type='IterBasedRunner', max_iters=1000)
evaluation = dict(interval=1000)
checkpoint_config = dict(interval=1000)
log_config = dict(interval=50)
