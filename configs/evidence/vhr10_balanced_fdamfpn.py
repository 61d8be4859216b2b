# The plain backbone with the frequency-modulated neck, by the protocol of vhr10_balanced.py.
_base_ = './vhr10_balanced.py'

model = dict(neck=dict(type='FDAMFPN'))
