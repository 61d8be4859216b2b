# DOTA-v1.5 (16 classes), patches of 1024 with overlap 200.
_base_ = './dotav1.py'

data_root = 'data/split_ss_dota-v1.5/'
data = dict(
    train=dict(
        classes='v1.5',
        ann_file=data_root + 'train/annfiles/',
        img_prefix=data_root + 'train/images/'),
    val=dict(
        classes='v1.5',
        ann_file=data_root + 'val/annfiles/',
        img_prefix=data_root + 'val/images/',
        gt_dir='data/DOTA-v1.5/val/labelTxt/'),
    test=dict(
        classes='v1.5',
        ann_file=data_root + 'test/images/',
        img_prefix=data_root + 'test/images/'))
