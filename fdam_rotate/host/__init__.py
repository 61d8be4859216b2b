"""Every change to mmcv, mmdet and MMRotate that ours needs, one function each.

================================  ======================================================  ======================
function                          what it changes, and why                                called by
================================  ======================================================  ======================
``fixes.mend_host``               calls the seven below                                   ``fdam_rotate.models``
``fixes.anchors_on_any_device``   MMRotate's anchor heads put anchors on the default GPU  ``mend_host``
``fixes.s2anet_on_any_backbone``  S2ANet hands its backbone ``pretrained=None``           ``mend_host``
``fixes.vertices_on_cpu``         Rotated FCOS's loss sorts by a CUDA op without a twin   ``mend_host``
``fixes.fcos_without_objects``    Rotated FCOS leaves its angles out of an empty loss     ``mend_host``
``fixes.turns_without_memory``    PolyRandomRotate's turns depend on all turns before     ``mend_host``
``maps.read_any_map``             mmcv's C++ misreads maps with channels last on the CPU  ``mend_host``
``suppression.quick_nms_on_cpu``  mmcv's rotated NMS takes minutes for 30,000 boxes       ``mend_host``
``devices.accept_int_devices``    mmcv passes numbers where torch wants ``torch.device``  ``apis.runtime``
``devices.share_seeds_on_cpu``    mmdet's samplers send their seed through a GPU          ``apis.runtime``, CPUs
``memory.keep_freed_memory``      glibc returns what torch frees, and gives it back empty  ``apis.runtime``, CPUs
``quiet.quiet_host``              silences notices that nobody can act on                 tools, before the host
``quiet.init_weights_quietly``    mmcv prints three lines for each parameter              training, ``gpu_check``
================================  ======================================================  ======================

One more lives with what it calls: ``apis.checkpoints.checkpoint.install_safe_loader`` makes mmcv open checkpoints as
tensors only. Each gives the host's own result where the host works.
"""
