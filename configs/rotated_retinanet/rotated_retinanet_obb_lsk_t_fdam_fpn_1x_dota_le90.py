# Rotated RetinaNet on LSKNet-T with FDAM and the frequency-modulated neck.
_base_ = './rotated_retinanet_obb_lsk_t_fpn_1x_dota_le90.py'

model = dict(backbone=dict(type='LSKNetFDAM', att_inv=True, freq_scale=True), neck=dict(type='FDAMFPN'))
optimizer = dict(constructor='FDAMOptimizerConstructor')
