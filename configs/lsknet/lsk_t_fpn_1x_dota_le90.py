# Baseline: LSKNet-T, Oriented R-CNN, the published recipe (8 GPUs x 2 images, lr 2e-4) but validated on `val`.
_base_ = './lsk_s_fpn_1x_dota_le90.py'

model = {{_base_.lsk_t}}
data = dict(samples_per_gpu=2)
optimizer = dict(lr=2e-4)
auto_scale_lr = dict(base_batch_size=16)
