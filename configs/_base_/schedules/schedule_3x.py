# 36 epochs, steps at 24 and 33: LSKNet's schedule for HRSC2016. On DOTA, single-scale results of 79 and more take it.
_base_ = './schedule_1x.py'

evaluation = dict(interval=3)
lr_config = dict(step=[24, 33])
runner = dict(max_epochs=36)
