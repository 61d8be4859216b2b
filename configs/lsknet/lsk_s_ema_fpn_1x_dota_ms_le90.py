# EMA fine-tuning: another 12 epochs from a finished multi-scale run, the weights averaged exponentially.
# Published for LSKNet-S: 81.85 mAP, from 81.64. The checkpoint holds the averaged weights in the model's own keys.
_base_ = './lsk_s_fpn_1x_dota_ms_trainval_le90.py'

load_from = 'work_dirs/lsk_s_fpn_1x_dota_ms_trainval_le90/latest.pth'
optimizer = dict(lr=2e-4)
# total_iter: the images of an epoch / 8 x 12 epochs; priority 49 puts the average in place before the checkpoint
custom_hooks = [dict(type='ExpMomentumEMAHook', total_iter=8541 * 12, priority=49)]
