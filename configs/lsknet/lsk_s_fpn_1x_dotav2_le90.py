# LSKNet-S, Oriented R-CNN, on DOTA-v2.0.
_base_ = [
    '../_base_/models/oriented_rcnn_lsk_s.py', '../_base_/datasets/dotav2.py', '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py'
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=18)))
data = dict(samples_per_gpu=1)
