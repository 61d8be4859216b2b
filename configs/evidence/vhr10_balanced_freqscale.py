# FreqScale alone in the backbone, the plain neck, by the protocol of vhr10_balanced.py.
_base_ = './vhr10_balanced.py'

model = dict(backbone=dict(type='LSKNetFDAM', att_inv=False, freq_scale=True))
