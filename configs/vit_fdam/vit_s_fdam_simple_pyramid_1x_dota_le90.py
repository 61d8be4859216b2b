# DeiT-III-S with FDAM, and a simple pyramid.
_base_ = './vit_b_fdam_simple_pyramid_1x_dota_le90.py'

model = dict(
    backbone=dict(
        arch='small',
        drop_path_rate=0.05,
        init_cfg=dict(checkpoint='https://dl.fbaipublicfiles.com/deit/deit_3_small_224_21k.pth')),
    neck=dict(in_channels=384))
