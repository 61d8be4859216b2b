# RoI Transformer (le90) on LSKNet-S; the head's settings are MMRotate's roi_trans_r50_fpn_1x_dota_le90.
_base_ = './oriented_rcnn_lsk_s.py'

angle = 'le90'
rcnn_assigner = dict(
    type='MaxIoUAssigner',
    pos_iou_thr=0.5,
    neg_iou_thr=0.5,
    min_pos_iou=0.5,
    match_low_quality=False,
    gpu_assign_thr=200,
    ignore_iof_thr=-1)
rcnn_sampler = dict(num=512, pos_fraction=0.25, neg_pos_ub=-1, add_gt_as_proposals=True)
bbox_head = dict(
    type='RotatedShared2FCBBoxHead',
    in_channels=256,
    fc_out_channels=1024,
    roi_feat_size=7,
    num_classes=15,
    loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    loss_bbox=dict(type='SmoothL1Loss', beta=1.0, loss_weight=1.0))
rpn_proposal = dict(nms_pre=2000, max_per_img=2000, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0)
model = dict(
    _delete_=True,
    type='RoITransformer',
    backbone={{_base_.model.backbone}},
    neck=dict(type='FPN', in_channels=[64, 128, 320, 512], out_channels=256, num_outs=5),
    rpn_head=dict(
        type='RotatedRPNHead',
        in_channels=256,
        feat_channels=256,
        version=angle,
        anchor_generator=dict(type='AnchorGenerator', scales=[8], ratios=[0.5, 1.0, 2.0], strides=[4, 8, 16, 32, 64]),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=[1.0] * 4),
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
        loss_bbox=dict(type='SmoothL1Loss', beta=1.0 / 9.0, loss_weight=1.0)),
    roi_head=dict(
        type='RoITransRoIHead',
        version=angle,
        num_stages=2,
        stage_loss_weights=[1, 1],
        bbox_roi_extractor=[
            dict(
                type='SingleRoIExtractor',
                roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0),
                out_channels=256,
                featmap_strides=[4, 8, 16, 32]),
            dict(
                type='RotatedSingleRoIExtractor',
                roi_layer=dict(type='RoIAlignRotated', out_size=7, sample_num=2, clockwise=True),
                out_channels=256,
                featmap_strides=[4, 8, 16, 32]),
        ],
        bbox_head=[
            dict(
                bbox_coder=dict(
                    type='DeltaXYWHAHBBoxCoder',
                    angle_range=angle,
                    norm_factor=2,
                    edge_swap=True,
                    target_means=[0.0] * 5,
                    target_stds=[0.1, 0.1, 0.2, 0.2, 1]),
                reg_class_agnostic=True,
                **bbox_head),
            dict(
                bbox_coder=dict(
                    type='DeltaXYWHAOBBoxCoder',
                    angle_range=angle,
                    norm_factor=None,
                    edge_swap=True,
                    proj_xy=True,
                    target_means=[0.0] * 5,
                    target_stds=[0.05, 0.05, 0.1, 0.1, 0.5]),
                reg_class_agnostic=False,
                **bbox_head),
        ]),
    train_cfg=dict(
        rpn={{_base_.model.train_cfg.rpn}},
        rpn_proposal=rpn_proposal,
        rcnn=[
            dict(
                assigner=dict(iou_calculator=dict(type='BboxOverlaps2D'), **rcnn_assigner),
                sampler=dict(type='RandomSampler', **rcnn_sampler),
                pos_weight=-1,
                debug=False),
            dict(
                assigner=dict(iou_calculator=dict(type='RBboxOverlaps2D'), **rcnn_assigner),
                sampler=dict(type='RRandomSampler', **rcnn_sampler),
                pos_weight=-1,
                debug=False),
        ]),
    test_cfg=dict(
        rpn=rpn_proposal,
        rcnn=dict(nms_pre=2000, min_bbox_size=0, score_thr=0.05, nms=dict(iou_thr=0.1), max_per_img=2000)))
