# Ablation of the neck, on the plain backbone: FreqScale on the lateral maps, before the top-down sum.
_base_ = './lsk_s_plain_fdam_fpn_1x_dota_le90.py'

model = dict(neck=dict(freq_place='lateral'))
