# As papers train: on HRSC2016's trainval. No labelled image is left to validate on but the test set.
_base_ = './lsk_s_fpn_3x_hrsc_le90.py'

data = dict(train=dict(ann_file='ImageSets/trainval.txt'), val=None)
