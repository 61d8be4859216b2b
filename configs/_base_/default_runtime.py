# Registers this project's models, data sets and optimizer rule with MMRotate.
custom_imports = dict(
    imports=['fdam_rotate.models', 'fdam_rotate.datasets', 'fdam_rotate.apis.optimizer'], allow_failed_imports=False)

checkpoint_config = dict(interval=1, max_keep_ckpts=3)
# curves: tensorboard --logdir work_dirs
log_config = dict(interval=50, hooks=[dict(type='TextLoggerHook'), dict(type='TensorboardLoggerHook')])
dist_params = dict(backend='nccl')  # on the CPU tools/train.py takes gloo
log_level = 'INFO'
load_from = None
resume_from = None
workflow = [('train', 1)]
opencv_num_threads = 0  # each loader process decodes on its own core
mp_start_method = 'fork'
