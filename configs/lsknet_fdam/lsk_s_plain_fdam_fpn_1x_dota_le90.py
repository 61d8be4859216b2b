# Ablation: the plain LSKNet backbone with the frequency-modulated neck.
_base_ = '../lsknet/lsk_s_fpn_1x_dota_le90.py'

model = dict(neck=dict(type='FDAMFPN'))
optimizer = dict(constructor='FDAMOptimizerConstructor')
