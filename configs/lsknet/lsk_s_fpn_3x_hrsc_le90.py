# LSKNet-S, Oriented R-CNN, on HRSC2016. Published for trainval -> test: 90.65 (VOC07), 98.46 (VOC12) mAP.
_base_ = [
    '../_base_/models/oriented_rcnn_lsk_s.py', '../_base_/datasets/hrsc.py', '../_base_/schedules/schedule_3x.py',
    '../_base_/default_runtime.py'
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=1)))
optimizer = dict(lr=4e-4)
