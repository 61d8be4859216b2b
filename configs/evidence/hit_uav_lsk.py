# The plain side on HIT-UAV: thermal frames from a drone, at half their resolution; the network is that of vhr10_lsk.py.
_base_ = './vhr10_lsk.py'

classes = ('car', 'bicycle')
model = dict(roi_head=dict(bbox_head=dict(num_classes=2)))
data_root = 'work_dirs/hit_uav/'
data = dict(
    train=dict(classes=classes, ann_file=data_root + 'train/annfiles/', img_prefix=data_root + 'train/images/'),
    val=dict(
        classes=classes,
        ann_file=data_root + 'val/annfiles/',
        img_prefix=data_root + 'val/images/',
        gt_dir='../shared/real/hit_uav/val/labelTxt/'),
    test=dict(classes=classes, ann_file=data_root + 'val/images/', img_prefix=data_root + 'val/images/'))
