# LSKNet-S, Oriented R-CNN, on DOTA-v1.0, multi-scale.
# Published for trainval -> test: 81.64 mAP.
_base_ = [
    '../_base_/models/oriented_rcnn_lsk_s.py', '../_base_/datasets/dotav1_ms.py', '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py'
]

data = dict(samples_per_gpu=1)
