# DOTA-v2.0 (18 classes), patches of 1024 with overlap 200; test stands for the test-dev images.
_base_ = './dotav1.py'

data_root = 'data/split_ss_dota-v2.0/'
data = dict(
    train=dict(
        classes='v2.0',
        ann_file=data_root + 'train/annfiles/',
        img_prefix=data_root + 'train/images/'),
    val=dict(
        classes='v2.0',
        ann_file=data_root + 'val/annfiles/',
        img_prefix=data_root + 'val/images/',
        gt_dir='data/DOTA-v2.0/val/labelTxt/'),
    test=dict(
        classes='v2.0',
        ann_file=data_root + 'test/images/',
        img_prefix=data_root + 'test/images/'))
