# RoI Transformer on LSKNet-S.
_base_ = [
    '../_base_/models/roi_trans_lsk_s.py', '../_base_/datasets/dotav1.py', '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py'
]
