# LSKNet-S with FDAM and the frequency-modulated neck, on DOTA-v2.0, multi-scale.
_base_ = '../lsknet/lsk_s_fpn_1x_dotav2_ms_le90.py'

model = dict(backbone=dict(type='LSKNetFDAM', att_inv=True, freq_scale=True), neck=dict(type='FDAMFPN'))
optimizer = dict(constructor='FDAMOptimizerConstructor')
