# R3Det on LSKNet-T.
_base_ = './r3det_lsk_s_fpn_1x_dota_oc.py'

model = {{_base_.lsk_t}}
