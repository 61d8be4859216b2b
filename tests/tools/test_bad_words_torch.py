"""What users mistype for the commands that need torch ends with exit code 2 or one line, before any long work."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from random_detectors import DEMO, random_detector
from small_training import make_parts

from fdam_rotate.apis.checkpoints.checkpoint import save_checkpoint_file
from fdam_rotate.apis.compat import load_config, setting_errors
from fdam_rotate.dota.errors import DotaError

#: Nobody listens there.
NOWHERE = "http://127.0.0.1:9/lsk.pth"

MMSEG = """
model = dict(type='EncoderDecoder', backbone=dict(type='ResNetV1c', depth=50), decode_head=dict(type='FCNHead'))
data = dict(train=dict(type='CityscapesDataset', pipeline=[]), test=dict(type='CityscapesDataset', pipeline=[]))
runner = dict(type='IterBasedRunner', max_iters=40000)
optimizer = dict(type='SGD', lr=0.01)
workflow = [('train', 1)]
"""

#: A config that is none, or does not fit -> what the line says of it.
CONFIGS = {
    "jpg.py": "not UTF-8 text",
    "photo.jpg": "a config is a Python file",
    "good.pth": "a config is a Python file",
    "empty.py": r"no model in it: it is no config of a detector",
    "a.json": "no model in it",
    "folder": "folder",
    "missing.py": "no such",
    "syntax.py": "was never closed",
    "raises.py": "ZeroDivisionError: division by zero",
    "name.py": "NameError: name 'foo' is not defined",
    "mmseg.py": "EncoderDecoder is not in the models registry|CityscapesDataset|begins with nothing",
    "typo.py": "LSKNetFDAMM is not in the models registry",
    "key.py": "unexpected keyword argument 'dept'",
    "text.py": "model is 'LSKNet'; expected dict",
}
CHECKPOINTS = {
    "photo.jpg": "is not a checkpoint|cannot be read",
    "empty.pth": "is empty",
    "empty.safetensors": "is empty",
    "half.pth": "cannot be read as a checkpoint",
    "half.safetensors": "cannot be read as safetensors",
    "a.json": "not a checkpoint|cannot be read",
    "folder": "folder",
    "missing.pth": "no such|does not exist",
    "good.py": "not a checkpoint|cannot be read",
}
#: --cfg-options of train and test -> what the line says.
OPTIONS = {
    "model=3": "model is 3; expected dict",
    "data=None": "no data in it",
    "data.train=3": "data.train is 3; expected a data set",
    "data.test=3": "data.test is 3; expected a data set",
    "data.test.pipeline=3": "data.test.pipeline is 3; expected a list",
    "model.backbon.depths=3": "unexpected keyword argument 'backbon'",
    "model.backbone.type=LSK": "LSK is not in the models registry",
    "model.roi_head.bbox_head.num_classes=3": "num_classes is 3, but the data set has 15 classes",
    "log_level=LOUD": "log_level is 'LOUD'; expected",
    "custom_hooks=3": "custom_hooks is 3; expected a list",
}
TRAINING_OPTIONS = {
    "runner=None": "no runner in it",
    "optimizer=None": "no optimizer in it",
    "optimizer.type=Foo": "Foo is not in the optimizer registry",
    "optimizer.lr=abc": "abc|format code",
    "lr_config.policy=foo": "FooLrUpdaterHook is not in the hook registry",
    "workflow=3": r"workflow is 3; expected \[",
    "workflow=[3]": "its parts are",
    "data.samples_per_gpu=x": "data.samples_per_gpu is 'x'; expected a whole number of at least 1",
    "data.workers_per_gpu=-1": "data.workers_per_gpu is -1; expected a whole number of at least 0",
    "data.train.type=Foo": "Foo is not in the dataset registry",
    "data.train.data_root=nowhere": "does not exist",
    "load_from=3": "load_from is 3; expected",
    f"load_from={NOWHERE}": f"{NOWHERE}: cannot be fetched: .*refused.*; fetch it where .* load_from=FILE",
}


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("things")
    detector, _ = random_detector()
    save_checkpoint_file(root / "good.pth", detector.state_dict())
    save_checkpoint_file(root / "good.safetensors", detector.state_dict())
    data = make_parts(root / "data", train=1, val=1, test=1)
    (root / "good.py").write_text(
        f"_base_ = {str(DEMO)!r}\nroot = {str(data)!r}\n"
        "data = dict(workers_per_gpu=0, train=dict(data_root=root), val=dict(data_root=root, gt_dir=None),\n"
        "            test=dict(data_root=root, gt_dir=None))\nrunner = dict(max_iters=1)\n"
    )
    for folder in ("images", "folder"):
        (root / folder).mkdir()
    image = np.zeros((128, 128, 3), np.uint8)
    assert cv2.imwrite(str(root / "images/a.png"), image)
    assert cv2.imwrite(str(root / "photo.jpg"), image)
    shutil.copy(root / "photo.jpg", root / "jpg.py")
    for name in ("empty.py", "empty.pth", "empty.safetensors"):
        (root / name).write_bytes(b"")
    for kind in ("pth", "safetensors"):
        (root / f"half.{kind}").write_bytes((root / f"good.{kind}").read_bytes()[:5000])
    texts = {
        "a.json": '{"a": 1}', "syntax.py": "model = dict(\n", "raises.py": "1 / 0\n", "name.py": "model = foo\n",
        "mmseg.py": MMSEG, "typo.py": "_base_ = 'good.py'\nmodel = dict(backbone=dict(type='LSKNetFDAMM'))\n",
        "key.py": "_base_ = 'good.py'\nmodel = dict(backbone=dict(dept=[1]))\n", "text.py": "model = 'LSKNet'\n",
    }  # fmt: skip
    for name, text in texts.items():
        (root / name).write_text(text)
    return root


def attempts(root: Path) -> Iterator[tuple[str, list[str], str]]:
    """Command, words, and what the line must say."""
    good, weights, images = str(root / "good.py"), str(root / "good.pth"), str(root / "images")
    small, quick = ["--shape", "64", "64"], ["--rounds", "1", "--warmup", "0"]
    measured = ["--images", images, "--out", "out", "--size", "64"]
    for name, said in CONFIGS.items():
        bad = str(root / name)
        yield "train", [bad, "--work-dir", "work"], said
        yield "test", [bad, weights, "--work-dir", "work"], said
        yield "predict", [bad, weights, images, "--out", "out"], said
        yield "export", [bad, weights, "--out", "out.onnx", *small], said
        yield "compare", [bad, "--work-dir", "work", "--dry-run"], said
        yield "benchmark", [bad, *small, *quick], said
        yield "flops", [bad, *small], said
        yield "convert-checkpoint", [weights, "--out", "out.pth", "--config", bad], said
        yield "feature-rank", [bad, weights, *measured], said
        yield "spectrum", [bad, weights, *measured], said
    for name, said in CHECKPOINTS.items():
        bad = str(root / name)
        yield "train", [good, "--work-dir", "work", "--resume-from", bad], said
        yield "test", [good, bad, "--work-dir", "work"], said
        yield "predict", [good, bad, images, "--out", "out"], said
        yield "export", [good, bad, "--out", "out.onnx", *small], said
        yield "benchmark", [good, "--checkpoints", bad, *small, *quick], said
        yield "convert-checkpoint", [bad, "--out", "out.pth"], said
        yield "feature-rank", [good, bad, *measured], said
        yield "spectrum", [good, bad, *measured], said
    for option, said in OPTIONS.items():
        yield "test", [good, weights, "--work-dir", "work", "--cfg-options", option], said
        yield "train", [good, "--work-dir", "work", "--cfg-options", option], said
    for option, said in TRAINING_OPTIONS.items():
        yield "train", [good, "--work-dir", "work", "--cfg-options", option], said
    for words in (["nonsense"], ["=3"]):
        yield "train", [good, "--work-dir", "work", "--cfg-options", *words], "exit 2"
    for device, said in (("cuda:97", "cuda:97|GPU"), ("gpu", "exit 2")):
        yield "benchmark", [good, *small, *quick, "--device", device], said
        yield "train", [good, "--work-dir", "work", "--device", device], said
        yield "test", [good, weights, "--work-dir", "work", "--device", device], said
        yield "predict", [good, weights, images, "--out", "out", "--device", device], said
        yield "spectrum", [good, weights, *measured, "--device", device], said
    for name in ("missing", "photo.jpg", "folder"):
        yield "spectrum", [good, weights, "--images", str(root / name), "--out", "out", "--size", "64"], ""
        yield "feature-rank", [good, weights, "--images", str(root / name), "--out", "out", "--size", "64"], ""
    yield "predict", [good, weights, str(root / "folder"), "--out", "out"], "no image in"
    yield "export", [good, weights, "--out", "out.txt", *small], "out.txt"
    yield "convert-checkpoint", [weights, "--out", "out.foo"], "out.foo"


#: A line for them would be wrong: these commands do not read what is bad there.
NOT_READ = {("flops", "mmseg.py"), ("compare", "typo.py"), ("compare", "key.py"), ("compare", "mmseg.py")}


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    ["train", "test", "predict", "export", "compare", "benchmark", "flops", "convert-checkpoint", "feature-rank",
     "spectrum"],
)  # fmt: skip
def test_every_mistake_is_told_in_one_line(
    command: str, things: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import re

    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    main = importlib.import_module(f"fdam_rotate.commands.{command.replace('-', '_')}").main
    failed = []
    for number, (name, argv, said) in enumerate(attempts(things)):
        if name != command or (command, Path(argv[0]).name) in NOT_READ:
            continue
        workplace = tmp_path / str(number)
        workplace.mkdir()
        monkeypatch.chdir(workplace)
        try:
            told = f"exit {main(list(argv))}"
        except SystemExit as stop:
            told = f"exit {stop.code}"
        except (DotaError, OSError) as error:
            told = str(error)
        except Exception as error:
            told = f"TRACEBACK {type(error).__name__}: {error}"[:200]
        lines = told.splitlines() or [""]
        if not re.search(said, told) or told in ("exit 0", "exit 1") or "TRACEBACK" in told or len(lines) > 1:
            failed.append(f"{' '.join(argv).replace(str(things), '$')}: {told[:300]!r}, expected {said!r}")
    assert not failed, "\n".join(failed)


def test_what_the_host_raises_is_a_line_with_its_kind() -> None:
    for error, said in (
        (KeyError("LSK is not in the models registry"), "model cannot be built: KeyError: LSK is not in the models"),
        (ValueError("depths must have 4 entries\nand more"), "model cannot be built: depths must have 4 entries"),
        (TypeError(""), "model cannot be built: TypeError"),
    ):
        with pytest.raises(DotaError) as found, setting_errors("model"):
            raise error
        assert str(found.value).startswith(said)
        assert "\n" not in str(found.value)
    with pytest.raises(FileNotFoundError), setting_errors("model"):
        raise FileNotFoundError("kept as it is")


def test_a_good_config_is_read(things: Path) -> None:
    assert load_config(things / "good.py", {"runner.max_iters": 7}).runner.max_iters == 7
