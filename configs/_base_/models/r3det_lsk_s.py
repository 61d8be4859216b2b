# R3Det (oc) with two refinements on LSKNet-S, as LSKNet's authors train it; the heads' settings are those of MMRotate's
# r3det_r50_fpn_1x_dota_oc, which refines once.
_base_ = './oriented_rcnn_lsk_s.py'

strides = [8, 16, 32, 64, 128]
head = dict(
    num_classes=15,
    in_channels=256,
    stacked_convs=4,
    feat_channels=256,
    bbox_coder=dict(
        type='DeltaXYWHAOBBoxCoder',
        angle_range='oc',
        norm_factor=None,
        edge_swap=False,
        proj_xy=False,
        target_means=(0.0, 0.0, 0.0, 0.0, 0.0),
        target_stds=(1.0, 1.0, 1.0, 1.0, 1.0)),
    loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
    loss_bbox=dict(type='SmoothL1Loss', beta=0.11, loss_weight=1.0))
training = dict(allowed_border=-1, pos_weight=-1, debug=False)
assigner = dict(
    type='MaxIoUAssigner',
    min_pos_iou=0,
    gpu_assign_thr=200,
    ignore_iof_thr=-1,
    iou_calculator=dict(type='RBboxOverlaps2D'))
model = dict(
    _delete_=True,
    type='R3Det',
    backbone={{_base_.model.backbone}},
    neck=dict(
        type='FPN',
        in_channels=[64, 128, 320, 512],
        out_channels=256,
        start_level=1,
        add_extra_convs='on_input',
        num_outs=5),
    bbox_head=dict(
        type='RotatedRetinaHead',
        anchor_generator=dict(
            type='RotatedAnchorGenerator',
            octave_base_scale=4,
            scales_per_octave=3,
            ratios=[1.0, 0.5, 2.0],
            strides=strides),
        **head),
    frm_cfgs=[dict(in_channels=256, featmap_strides=strides)] * 2,
    num_refine_stages=2,
    refine_heads=[
        dict(
            type='RotatedRetinaRefineHead',
            assign_by_circumhbbox=None,
            anchor_generator=dict(type='PseudoAnchorGenerator', strides=strides),
            **head)
    ] * 2,
    train_cfg=dict(
        s0=dict(assigner=dict(pos_iou_thr=0.5, neg_iou_thr=0.4, **assigner), **training),
        sr=[
            dict(assigner=dict(pos_iou_thr=0.6, neg_iou_thr=0.5, **assigner), **training),
            dict(assigner=dict(pos_iou_thr=0.7, neg_iou_thr=0.6, **assigner), **training),
        ],
        stage_loss_weights=[1.0, 1.0]),
    test_cfg=dict(nms_pre=2000, min_bbox_size=0, score_thr=0.05, nms=dict(iou_thr=0.1), max_per_img=2000))
