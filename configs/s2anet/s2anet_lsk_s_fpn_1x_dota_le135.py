# S2A-Net on LSKNet-S.
_base_ = [
    '../_base_/models/s2anet_lsk_s.py', '../_base_/datasets/dotav1.py', '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py'
]

angle_version = 'le135'
part = dict(version=angle_version)
data = dict(train=part, val=part, test=part)
auto_scale_lr = dict(base_batch_size=16)  # LSKNet's authors train it with lr 1e-4 on 8 GPUs x 2 images
