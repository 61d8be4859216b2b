# The released small detector's last 6,000 steps: turned images (../released/vhr10_small), and those with rare classes
# two or three times a pass. Start weights come by load_from; see the README beside the released one.
_base_ = '../released/vhr10_small/vhr10_small.py'

data = dict(
    train=dict(
        _delete_=True,
        type='ClassBalancedDataset',
        oversample_thr=0.3,
        dataset=dict(
            type='DOTAPatchDataset',
            version='le90',
            classes={{_base_.classes}},
            data_root='work_dirs/vhr10/',
            ann_file='train/annfiles/',
            img_prefix='train/images/',
            pipeline={{_base_.train_pipeline}})))
optimizer = dict(lr=8e-4)
lr_config = dict(warmup_iters=50)
runner = dict(max_iters=6000)
evaluation = dict(interval=6000)
