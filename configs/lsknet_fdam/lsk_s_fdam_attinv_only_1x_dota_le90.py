# Ablation: AttInv alone in the backbone; FreqScale off.
_base_ = './lsk_s_fdam_fpn_1x_dota_le90.py'

model = dict(backbone=dict(freq_scale=False))
