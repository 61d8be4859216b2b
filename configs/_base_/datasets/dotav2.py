# DOTA-v2.0 (18 classes), patches of 1024 with overlap 200; test stands for the test-dev images.
_base_ = './dotav1.py'

part = dict(data_root='data/split_ss_dota-v2.0/', classes='v2.0')
data = dict(train=part, val=dict(gt_dir='data/DOTA-v2.0/val/labelTxt/', **part), test=part)
