# DOTA-v1.0 at rates 0.5, 1.0 and 1.5, overlap 500: the multi-scale protocol.
_base_ = './dotav1.py'

part = dict(data_root='data/split_ms_dota/')
data = dict(train=part, val=part, test=part)
