"""Devices as numbers, the backbone that S2A-Net builds, notices: what the host is given, and what is left behind."""

from __future__ import annotations

import logging
import warnings

import pytest
import torch
from mmcv.parallel import _functions
from mmcv.runner import BaseModule
from mmrotate.core.anchor.anchor_generator import RotatedAnchorGenerator
from mmrotate.models.dense_heads import RotatedFCOSHead
from mmrotate.models.detectors import s2anet

import fdam_rotate.models  # noqa: F401
from fdam_rotate.host import devices, quiet
from fdam_rotate.host.fixes import mend_host


def test_numbers_of_devices_become_devices(monkeypatch):
    asked = []
    monkeypatch.setattr("torch.nn.parallel._functions._get_stream", asked.append)
    monkeypatch.setattr(_functions, "_get_stream", None)
    devices.accept_int_devices()
    for device in (0, 3, -1, torch.device("cuda", 2)):
        _functions._get_stream(device)
    assert asked == [torch.device("cuda", 0), torch.device("cuda", 3), torch.device("cpu"), torch.device("cuda", 2)]


def test_the_host_is_mended_once():
    functions = [RotatedFCOSHead.loss, RotatedAnchorGenerator.grid_priors, s2anet.build_backbone]
    mend_host()
    assert [RotatedFCOSHead.loss, RotatedAnchorGenerator.grid_priors, s2anet.build_backbone] == functions


def test_s2anets_backbone_gets_weights_that_are_named_and_no_none():
    plain = dict(type="ResNet", depth=18, num_stages=1, strides=(1,), dilations=(1,), out_indices=(0,))
    with pytest.warns(UserWarning, match="pretrained"):
        named = s2anet.build_backbone({**plain, "pretrained": "a.pth"})
    assert named.init_cfg == dict(type="Pretrained", checkpoint="a.pth")
    small = dict(type="LSKNet", embed_dims=(4, 8, 12, 16), depths=(1, 1, 1, 1))
    assert s2anet.build_backbone({**small, "pretrained": None}).init_cfg is None


def test_weights_are_started_without_a_line_for_each():
    class Model(BaseModule):
        def __init__(self):
            super().__init__(init_cfg=dict(type="Constant", layer="Linear", val=3.0))
            self.layer = torch.nn.Linear(1, 1)

    model = Model()
    written: list[object] = []
    model._dump_init_info = written.append
    del model._dump_init_info
    quiet.init_weights_quietly(model)
    assert model.layer.weight.item() == 3
    assert "_dump_init_info" not in vars(model), "it can be copied and pickled"


class Thing:
    """What is sent to a worker."""


def test_a_worker_silences_the_host_before_it_meets_it(monkeypatch):
    import pickle

    order = []
    monkeypatch.setattr(quiet, "quiet_host", lambda: order.append("quiet"))
    load = quiet.importlib.import_module
    monkeypatch.setattr(quiet.importlib, "import_module", lambda name: order.append(name) or load(name))
    found = quiet.restore_quietly(__name__, "Thing", pickle.dumps({"a": 1}))
    assert (type(found).__name__, found.a) == ("Thing", 1)
    assert order == ["quiet", __name__]


def test_notices_that_nobody_can_act_on_are_silent_and_others_are_not():
    level = logging.getLogger("torch.utils.cpp_extension").level
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            quiet.quiet_host()
            for text in (
                "On January 1, 2023, MMCV will release v2.0.0", "Setting OMP_NUM_THREADS environment variable for each",
                "pkg_resources is deprecated", "torch.meshgrid: in an upcoming release", "your data are wrong",
            ):  # fmt: skip
                warnings.warn(text, UserWarning, stacklevel=1)
        assert [str(one.message) for one in seen] == ["your data are wrong"]
        assert logging.getLogger("torch.utils.cpp_extension").level == logging.ERROR
    finally:
        logging.getLogger("torch.utils.cpp_extension").setLevel(level)
