# DOTA-v1.0 for 36 epochs, trained on train and val together, as papers do for the test server.
# No labelled image is left to validate on.
_base_ = './lsk_s_fpn_3x_dota_le90.py'

data = dict(train={{_base_.trainval}}, val=None)
