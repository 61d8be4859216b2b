# S2A-Net on LSKNet-T.
_base_ = './s2anet_lsk_s_fpn_1x_dota_le135.py'

model = dict(
    backbone=dict(
        embed_dims=[32, 64, 160, 256],
        depths=[3, 3, 5, 2],
        init_cfg=dict(
            checkpoint='https://download.openmmlab.com/mmrotate/v1.0/lsknet/backbones/lsk_t_backbone-2ef8a593.pth')),
    neck=dict(in_channels=[32, 64, 160, 256]))
