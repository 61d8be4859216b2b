# LSKNet-S with FDAM and the frequency-modulated neck, on HRSC2016.
_base_ = '../lsknet/lsk_s_fpn_3x_hrsc_le90.py'

model = {{_base_.fdam}}
optimizer = {{_base_.fdam_optimizer}}
