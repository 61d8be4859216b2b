# LSKNet-S with FDAM on one GPU with the published batch of 8 images.
_base_ = '../lsknet/lsk_s_fpn_1x_dota_one_gpu_le90.py'

model = {{_base_.fdam}}
optimizer = {{_base_.fdam_optimizer}}
