# LSKNet-S, Oriented R-CNN, for 36 epochs in place of 12; compare results only with those of as many epochs.
_base_ = [
    '../_base_/models/oriented_rcnn_lsk_s.py', '../_base_/datasets/dotav1.py', '../_base_/schedules/schedule_3x.py',
    '../_base_/default_runtime.py'
]

data = dict(samples_per_gpu=1)
