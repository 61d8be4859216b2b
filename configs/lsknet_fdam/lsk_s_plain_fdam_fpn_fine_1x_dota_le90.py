# Ablation of the neck, on the plain backbone: FreqScale on the two finest levels only.
_base_ = './lsk_s_plain_fdam_fpn_1x_dota_le90.py'

model = dict(neck=dict(freq_levels=[0, 1]))
