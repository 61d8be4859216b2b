# LSKNet-T, Oriented R-CNN, multi-scale, trained on train and val together.
# Published for trainval -> test: 81.37 mAP.
_base_ = './lsk_s_fpn_1x_dota_ms_trainval_le90.py'

model = {{_base_.lsk_t}}
data = dict(samples_per_gpu=2)
optimizer = dict(lr=2e-4)
auto_scale_lr = dict(base_batch_size=16)
