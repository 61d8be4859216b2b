# SegFormer's MiT-B2 with FDAM and the frequency-modulated neck.
_base_ = './mit_b0_fdam_fpn_1x_dota_le90.py'

model = dict(
    backbone=dict(
        arch='b2',
        init_cfg=dict(
            checkpoint='https://download.openmmlab.com/mmsegmentation/v0.5/pretrain/segformer/mit_b2_20220624-66e8bf70.pth'
        )),
    neck=dict(in_channels=[64, 128, 320, 512]))
