# FDAM both, by the protocol of vhr10_balanced.py: AttInv and FreqScale in every block, and FDAMFPN as the neck.
_base_ = './vhr10_balanced.py'

model = dict(backbone=dict(type='LSKNetFDAM', att_inv=True, freq_scale=True), neck=dict(type='FDAMFPN'))
