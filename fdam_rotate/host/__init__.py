"""Every change to mmcv, mmdet and MMRotate that ours needs, in one place."""
