# S2A-Net on LSKNet-T.
_base_ = './s2anet_lsk_s_fpn_1x_dota_le135.py'

model = {{_base_.lsk_t}}
