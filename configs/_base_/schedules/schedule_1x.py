# LSKNet's published schedule: 12 epochs, AdamW, steps at 8 and 11. `lr` belongs to `base_batch_size` images per step;
# tools/train.py scales it to the images that a step really has (auto_scale_lr.enable=False turns that off).
evaluation = dict(interval=1, metric='mAP', save_best='auto')
optimizer = dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05)
optimizer_config = dict(grad_clip=dict(max_norm=35, norm_type=2))
lr_config = dict(policy='step', warmup='linear', warmup_iters=500, warmup_ratio=1.0 / 3, step=[8, 11])
runner = dict(type='EpochBasedRunner', max_epochs=12)
auto_scale_lr = dict(enable=True, base_batch_size=8)
# With FDAM: twice the learning rate for freq_scale*, no weight decay on 1-D parameters
fdam_optimizer = dict(constructor='FDAMOptimizerConstructor')
