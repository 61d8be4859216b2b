# S2A-Net (le135) on LSKNet-S; the heads' settings are MMRotate's s2anet_r50_fpn_1x_dota_le135.
_base_ = './oriented_rcnn_lsk_s.py'

strides = [8, 16, 32, 64, 128]
head = dict(
    num_classes=15,
    in_channels=256,
    stacked_convs=2,
    feat_channels=256,
    assign_by_circumhbbox=None,
    bbox_coder=dict(
        type='DeltaXYWHAOBBoxCoder',
        angle_range='le135',
        norm_factor=1,
        edge_swap=False,
        proj_xy=True,
        target_means=(0.0, 0.0, 0.0, 0.0, 0.0),
        target_stds=(1.0, 1.0, 1.0, 1.0, 1.0)),
    loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
    loss_bbox=dict(type='SmoothL1Loss', beta=0.11, loss_weight=1.0))
training = dict(
    assigner=dict(
        type='MaxIoUAssigner',
        pos_iou_thr=0.5,
        neg_iou_thr=0.4,
        min_pos_iou=0,
        gpu_assign_thr=200,
        ignore_iof_thr=-1,
        iou_calculator=dict(type='RBboxOverlaps2D')),
    allowed_border=-1,
    pos_weight=-1,
    debug=False)
model = dict(
    _delete_=True,
    type='S2ANet',
    backbone={{_base_.model.backbone}},
    neck=dict(
        type='FPN',
        in_channels=[64, 128, 320, 512],
        out_channels=256,
        start_level=1,
        add_extra_convs='on_input',
        num_outs=5),
    fam_head=dict(
        type='RotatedRetinaHead',
        anchor_generator=dict(type='RotatedAnchorGenerator', scales=[4], ratios=[1.0], strides=strides),
        **head),
    align_cfgs=dict(type='AlignConv', kernel_size=3, channels=256, featmap_strides=strides),
    odm_head=dict(
        type='ODMRefineHead', anchor_generator=dict(type='PseudoAnchorGenerator', strides=strides), **head),
    train_cfg=dict(fam_cfg=training, odm_cfg=training),
    test_cfg=dict(nms_pre=2000, min_bbox_size=0, score_thr=0.05, nms=dict(iou_thr=0.1), max_per_img=2000))
