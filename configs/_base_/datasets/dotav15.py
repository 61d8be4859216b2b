# DOTA-v1.5 (16 classes), patches of 1024 with overlap 200.
_base_ = './dotav1.py'

part = dict(data_root='data/split_ss_dota-v1.5/', classes='v1.5')
data = dict(train=part, val=dict(gt_dir='data/DOTA-v1.5/val/labelTxt/', **part), test=part)
