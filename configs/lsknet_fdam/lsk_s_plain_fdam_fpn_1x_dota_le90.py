# Ablation: the plain LSKNet backbone with the frequency-modulated neck. On the lateral maps or the results in place of
# the sums: --cfg-options model.neck.freq_place=lateral (or output); on some levels: model.neck.freq_levels=[0,1].
_base_ = '../lsknet/lsk_s_fpn_1x_dota_le90.py'

model = dict(neck={{_base_.fdam.neck}})
optimizer = {{_base_.fdam_optimizer}}
