# LSKNet-T with FDAM and the frequency-modulated neck, on DOTA-v1.5, multi-scale.
_base_ = '../lsknet/lsk_t_fpn_1x_dotav15_ms_le90.py'

model = dict(backbone=dict(type='LSKNetFDAM', att_inv=True, freq_scale=True), neck=dict(type='FDAMFPN'))
optimizer = dict(constructor='FDAMOptimizerConstructor')
