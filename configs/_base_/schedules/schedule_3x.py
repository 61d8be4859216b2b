# 36 epochs, steps at 24 and 33: LSKNet's schedule for HRSC2016.
_base_ = './schedule_1x.py'

evaluation = dict(interval=3)
lr_config = dict(step=[24, 33])
runner = dict(max_epochs=36)
