# LSKNet-S with FDAM and the frequency-modulated neck, for 36 epochs in place of 12.
_base_ = '../lsknet/lsk_s_fpn_3x_dota_le90.py'

model = {{_base_.fdam}}
optimizer = {{_base_.fdam_optimizer}}
