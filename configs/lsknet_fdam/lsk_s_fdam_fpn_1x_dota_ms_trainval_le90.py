# LSKNet-S with FDAM and the frequency-modulated neck, multi-scale, trained on train and val together.
_base_ = '../lsknet/lsk_s_fpn_1x_dota_ms_trainval_le90.py'

model = {{_base_.fdam}}
optimizer = {{_base_.fdam_optimizer}}
