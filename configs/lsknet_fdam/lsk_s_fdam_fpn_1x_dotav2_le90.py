# LSKNet-S with FDAM and the frequency-modulated neck, on DOTA-v2.0.
_base_ = '../lsknet/lsk_s_fpn_1x_dotav2_le90.py'

model = {{_base_.fdam}}
optimizer = {{_base_.fdam_optimizer}}
