# LSKNet-T with FDAM (AttInv and FreqScale in every block) and the frequency-modulated neck.
_base_ = '../lsknet/lsk_t_fpn_1x_dota_le90.py'

model = dict(backbone=dict(type='LSKNetFDAM', att_inv=True, freq_scale=True), neck=dict(type='FDAMFPN'))
# Twice the learning rate for freq_scale*, no weight decay on 1-D parameters
optimizer = dict(constructor='FDAMOptimizerConstructor')
