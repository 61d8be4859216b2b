# S2A-Net on LSKNet-S with FDAM and the frequency-modulated neck.
_base_ = './s2anet_lsk_s_fpn_1x_dota_le135.py'

model = {{_base_.fdam}}
optimizer = {{_base_.fdam_optimizer}}
