# The plain LSKNet-S with FreqFusionFPN: frequency-aware fusion in place of the FPN's top-down sum.
_base_ = '../lsknet/lsk_s_fpn_1x_dota_le90.py'

model = dict(neck=dict(type='FreqFusionFPN'))
