# LSKNet-S, Oriented R-CNN, on DOTA-v1.5, multi-scale.
_base_ = [
    '../_base_/models/oriented_rcnn_lsk_s.py', '../_base_/datasets/dotav15_ms.py', '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py'
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=16)))
data = dict(samples_per_gpu=1)
