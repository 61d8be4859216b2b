# LSKNet-T, Oriented R-CNN, on DOTA-v2.0.
_base_ = './lsk_s_fpn_1x_dotav2_le90.py'

model = dict(
    backbone=dict(
        embed_dims=[32, 64, 160, 256],
        depths=[3, 3, 5, 2],
        init_cfg=dict(
            checkpoint='https://download.openmmlab.com/mmrotate/v1.0/lsknet/backbones/lsk_t_backbone-2ef8a593.pth')),
    neck=dict(in_channels=[32, 64, 160, 256]))
data = dict(samples_per_gpu=2)
optimizer = dict(lr=2e-4)
auto_scale_lr = dict(base_batch_size=16)
