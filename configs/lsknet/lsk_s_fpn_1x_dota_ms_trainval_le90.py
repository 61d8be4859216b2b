# Multi-scale, trained on train and val together for the test server. No labelled image is left to validate on.
_base_ = './lsk_s_fpn_1x_dota_ms_le90.py'

data_root = 'data/split_ms_dota/'
data = dict(
    train=dict(
        ann_file=[data_root + 'train/annfiles/', data_root + 'val/annfiles/'],
        img_prefix=[data_root + 'train/images/', data_root + 'val/images/']),
    val=None)
