# RoI Transformer on LSKNet-S with FDAM and the frequency-modulated neck.
_base_ = './roi_trans_lsk_s_fpn_1x_dota_le90.py'

model = {{_base_.fdam}}
optimizer = {{_base_.fdam_optimizer}}
