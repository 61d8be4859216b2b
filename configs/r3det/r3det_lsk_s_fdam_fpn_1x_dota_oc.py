# R3Det on LSKNet-S with FDAM and the frequency-modulated neck.
_base_ = './r3det_lsk_s_fpn_1x_dota_oc.py'

model = {{_base_.fdam}}
optimizer = {{_base_.fdam_optimizer}}
