# The plain side on HIT-UAV: thermal frames from a drone, at half their resolution; the network is that of vhr10_lsk.py.
_base_ = './vhr10_lsk.py'

classes = ('car', 'bicycle')
model = dict(roi_head=dict(bbox_head=dict(num_classes=2)))
part = dict(classes=classes, data_root='work_dirs/hit_uav/')
data = dict(train=part, val=dict(gt_dir='../shared/real/hit_uav/val/labelTxt/', **part), test=part)
