# LSKNet-S with FDAM, and FreqFusionFPN.
_base_ = '../lsknet_fdam/lsk_s_fdam_fpn_1x_dota_le90.py'

model = dict(neck=dict(type='FreqFusionFPN'))
