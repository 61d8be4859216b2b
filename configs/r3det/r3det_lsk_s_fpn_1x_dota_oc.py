# R3Det on LSKNet-S.
_base_ = [
    '../_base_/models/r3det_lsk_s.py', '../_base_/datasets/dotav1.py', '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py'
]

angle_version = 'oc'
part = dict(version=angle_version)
data = dict(train=part, val=part, test=part)
