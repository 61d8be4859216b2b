# Ablation: the FDAM backbone with MMDetection's plain FPN.
_base_ = './lsk_s_fdam_fpn_1x_dota_le90.py'

model = dict(neck=dict(type='FPN'))
