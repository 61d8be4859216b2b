# LSKNet-T with FDAM (AttInv and FreqScale in every block) and the frequency-modulated neck.
_base_ = '../lsknet/lsk_t_fpn_1x_dota_le90.py'

model = {{_base_.fdam}}
optimizer = {{_base_.fdam_optimizer}}
