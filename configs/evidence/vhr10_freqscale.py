# FreqScale alone in the backbone, the plain neck.
_base_ = './vhr10_lsk.py'

model = dict(backbone=dict(type='LSKNetFDAM', att_inv=False, freq_scale=True))
