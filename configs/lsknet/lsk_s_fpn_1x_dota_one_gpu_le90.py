# The published batch of 8 images on one GPU: 2 images per step, 4 steps accumulated, so that lr stays 1e-4.
# Batch normalisation sees 2 images where SyncBN on 8 GPUs sees 8.
_base_ = './lsk_s_fpn_1x_dota_le90.py'

data = dict(samples_per_gpu=2)
optimizer_config = dict(type='GradientCumulativeOptimizerHook', cumulative_iters=4)
lr_config = dict(warmup_iters=500 * 4)  # of the 500 published, each is 4 here
