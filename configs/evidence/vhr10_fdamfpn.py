# The plain backbone with the frequency-modulated neck.
_base_ = './vhr10_lsk.py'

model = dict(neck=dict(type='FDAMFPN'))
