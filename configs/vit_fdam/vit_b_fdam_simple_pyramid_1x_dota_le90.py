# DeiT-III-B with FDAM: windows of 16 x 16 patches with four global blocks, and a simple pyramid; Oriented R-CNN.
# Give the ImageNet-21k backbone (deit_3_base_224_21k.pth, Apache-2.0) as model.backbone.init_cfg.checkpoint.
_base_ = '../lsknet/lsk_s_fpn_1x_dota_le90.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='ViTFDAM',
        arch='base',
        img_size=224,
        drop_path_rate=0.15,
        init_cfg=dict(type='Pretrained', checkpoint='https://dl.fbaipublicfiles.com/deit/deit_3_base_224_21k.pth')),
    neck=dict(_delete_=True, type='SimplePyramid', in_channels=768, out_channels=256, num_outs=5))
optimizer = {{_base_.fdam_optimizer}}
