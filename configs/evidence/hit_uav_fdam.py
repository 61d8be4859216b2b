# FDAM both on HIT-UAV: AttInv and FreqScale in every block of the backbone, and the frequency-modulated neck.
_base_ = './hit_uav_lsk.py'

model = dict(backbone=dict(type='LSKNetFDAM', att_inv=True, freq_scale=True), neck=dict(type='FDAMFPN'))
