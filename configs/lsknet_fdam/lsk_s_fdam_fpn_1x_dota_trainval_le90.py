# As papers train for the test server: on train and val together. No labelled image is left to validate on.
_base_ = './lsk_s_fdam_fpn_1x_dota_le90.py'

data_root = 'data/split_ss_dota/'
data = dict(
    train=dict(
        ann_file=[data_root + 'train/annfiles/', data_root + 'val/annfiles/'],
        img_prefix=[data_root + 'train/images/', data_root + 'val/images/']),
    val=None)
