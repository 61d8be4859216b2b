# LSKNet-T, Oriented R-CNN, for 36 epochs in place of 12.
_base_ = './lsk_s_fpn_3x_dota_le90.py'

model = {{_base_.lsk_t}}
data = dict(samples_per_gpu=2)
optimizer = dict(lr=2e-4)
auto_scale_lr = dict(base_batch_size=16)
