# SegFormer's MiT-B0 with FDAM and the frequency-modulated neck; Oriented R-CNN.
# The weights, converted by MMSegmentation, are NVIDIA's and non-commercial.
_base_ = '../lsknet/lsk_s_fpn_1x_dota_le90.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='MiTFDAM',
        arch='b0',
        drop_path_rate=0.1,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://download.openmmlab.com/mmsegmentation/v0.5/pretrain/segformer/mit_b0_20220624-7e0fe6dd.pth'
        )),
    neck=dict(type='FDAMFPN', in_channels=[32, 64, 160, 256]))
optimizer = {{_base_.fdam_optimizer}}
