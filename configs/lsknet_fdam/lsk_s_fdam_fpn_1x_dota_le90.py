# LSKNet-S with FDAM (AttInv and FreqScale in every block) and the frequency-modulated neck.
# Quoted from FDAM (ICCV 2025) for trainval -> test, single scale: 78.61 mAP, with their unreleased code.
_base_ = '../lsknet/lsk_s_fpn_1x_dota_le90.py'

model = {{_base_.fdam}}
optimizer = {{_base_.fdam_optimizer}}
