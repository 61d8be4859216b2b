# Ablation: FreqScale alone in the backbone; AttInv off.
_base_ = './lsk_s_fdam_fpn_1x_dota_le90.py'

model = dict(backbone=dict(att_inv=False))
