# Baseline: LSKNet-S, Oriented R-CNN, the published recipe (8 GPUs x 1 image, lr 1e-4) but validated on `val`.
# Quoted by later papers for trainval -> test, single scale: 77.49 mAP.
_base_ = [
    '../_base_/models/oriented_rcnn_lsk_s.py', '../_base_/datasets/dotav1.py', '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py'
]

data = dict(samples_per_gpu=1)
