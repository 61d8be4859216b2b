# DOTA-v1.5 at rates 0.5, 1.0 and 1.5, overlap 500.
_base_ = './dotav15.py'

data_root = 'data/split_ms_dota-v1.5/'
data = dict(
    train=dict(
        ann_file=data_root + 'train/annfiles/',
        img_prefix=data_root + 'train/images/'),
    val=dict(
        ann_file=data_root + 'val/annfiles/',
        img_prefix=data_root + 'val/images/'),
    test=dict(
        ann_file=data_root + 'test/images/',
        img_prefix=data_root + 'test/images/'))
