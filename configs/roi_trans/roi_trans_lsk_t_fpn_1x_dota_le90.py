# RoI Transformer on LSKNet-T.
_base_ = './roi_trans_lsk_s_fpn_1x_dota_le90.py'

model = {{_base_.lsk_t}}
