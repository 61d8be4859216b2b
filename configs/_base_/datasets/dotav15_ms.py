# DOTA-v1.5 at rates 0.5, 1.0 and 1.5, overlap 500.
_base_ = './dotav15.py'

part = dict(data_root='data/split_ms_dota-v1.5/')
data = dict(train=part, val=part, test=part)
