"""Both runners by themselves, on a model of one number: what a checkpoint holds, what validation losses leave alone."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from mmcv.parallel import MMDataParallel
from mmcv.runner import Hook, OptimizerHook
from torch import nn

from fdam_rotate.apis.loading import SeededBatches, seeded_loader
from fdam_rotate.apis.runners import EpochRunner, IterRunner


class Model(nn.Module):
    """Learns one number; notes the images of each step and the state that it saw them in."""

    CLASSES = ("ship",)

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.seen: list[tuple[str, list[float], bool, bool]] = []

    def _step(self, mode: str, batch: torch.Tensor) -> dict[str, Any]:
        self.seen.append((mode, batch.tolist(), self.training, torch.is_grad_enabled()))
        loss = (self.weight * batch).square().mean()
        return {"loss": loss, "log_vars": {"loss": float(loss.detach())}, "num_samples": len(batch)}

    def train_step(self, batch: torch.Tensor, optimizer: Any, **_: Any) -> dict[str, Any]:
        return self._step("train", batch)

    def val_step(self, batch: torch.Tensor, optimizer: Any = None, **_: Any) -> dict[str, Any]:
        return self._step("val", batch)


class Events(Hook):
    """Notes the hooks of validation, with the number of the step in it."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, int]] = []

    def before_val_epoch(self, runner: Any) -> None:
        self.seen.append(("before", runner.mode, -1))

    def before_val_iter(self, runner: Any) -> None:
        self.seen.append(("step", runner.mode, runner.inner_iter))

    def after_val_epoch(self, runner: Any) -> None:
        self.seen.append(("after", runner.mode, -1))


def _runner(kind: Any, folder: Path, *, model: nn.Module | None = None, **length: int) -> Any:
    model = Model() if model is None else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return kind(
        model, optimizer=optimizer, work_dir=str(folder), logger=logging.getLogger("test"), meta={"seed": 1}, **length
    )


def _loader(values: list[float], *, endless: bool = False) -> Any:
    batches = SeededBatches(len(values), 1, seed=0, shuffle=False, endless=endless)
    return seeded_loader(values, batches, {"workers_per_gpu": 0})


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # mmcv waits a second for its loggers


@pytest.mark.parametrize(("kind", "length"), [(EpochRunner, "max_epochs"), (IterRunner, "max_iters")])
def test_what_a_checkpoint_holds_is_what_its_settings_say(kind, length, tmp_path):
    runner = _runner(kind, tmp_path, model=MMDataParallel(Model()), **{length: 3})
    runner.save_checkpoint(str(tmp_path), "a_{}.pth", save_optimizer=False, meta={"note": "mine", "seed": 9},
                           create_symlink=False)  # fmt: skip
    first = torch.load(tmp_path / "a_1.pth", weights_only=False)
    assert set(first) == {"meta", "state_dict"}
    assert set(first["state_dict"]) == {"weight"}, "without the wrapper's name"
    assert (first["meta"]["note"], first["meta"]["seed"], first["meta"]["CLASSES"]) == ("mine", 1, ("ship",))
    assert not (tmp_path / "latest.pth").is_symlink()
    assert runner.steps_saved is None, "no run goes on from it"
    runner.save_checkpoint(str(tmp_path), "b_{}.pth")
    assert "optimizer" in torch.load(tmp_path / "b_1.pth", weights_only=False)
    assert (tmp_path / "latest.pth").readlink() == Path("b_1.pth"), "the work folder can be moved"
    assert runner.steps_saved == (0 if kind is EpochRunner else 1)
    runner.model.module.CLASSES = None
    runner.save_checkpoint(str(tmp_path), "c_{}.pth")
    assert "CLASSES" not in torch.load(tmp_path / "c_1.pth", weights_only=False)["meta"]


def test_a_run_takes_up_what_the_file_knows(tmp_path):
    first = _runner(EpochRunner, tmp_path, max_epochs=2)
    first.register_hook(OptimizerHook())
    first.run([_loader([1.0, 2.0])], [("train", 1)])
    first.meta.update(hook_msgs={"best_score": 0.5, "last_ckpt": "x"}, note="of the first run")
    assert first.max_iters == 4, "what schedules by steps reckon with"
    first.save_checkpoint(str(tmp_path), "a_{}.pth")
    momentum = first.optimizer.state_dict()["state"][0]["momentum_buffer"]
    again, other = (_runner(EpochRunner, tmp_path, max_epochs=9) for _ in range(2))
    again.meta["exp_name"] = "second"
    again.resume(str(tmp_path / "a_3.pth"))
    assert torch.equal(again.optimizer.state_dict()["state"][0]["momentum_buffer"], momentum)
    assert (again.epoch, again.iter, again.steps_saved) == (3, 4, 4)
    assert again.meta["hook_msgs"] == {"best_score": 0.5, "last_ckpt": "x"}
    assert (again.meta["note"], again.meta["exp_name"]) == ("of the first run", "second")
    other.resume(str(tmp_path / "a_3.pth"), resume_optimizer=False)
    assert other.optimizer.state_dict()["state"] == {}
    assert torch.equal(other.model.weight, first.model.weight)


def test_a_checkpoint_within_an_epoch_has_the_name_that_it_was_given(tmp_path):
    class Saving(Hook):
        def __init__(self, *names):
            self.names = names

        def after_train_iter(self, runner):
            if self.every_n_iters(runner, 2):
                runner.save_checkpoint(str(tmp_path), *self.names)

    for names in ([], ["step{}.pth"]):
        runner = _runner(EpochRunner, tmp_path, max_epochs=1)
        runner.register_hook(Saving(*names))
        runner.run([_loader([1.0, 2.0, 3.0])], [("train", 1)])
    assert sorted(path.name for path in tmp_path.glob("*2.pth")) == ["iter_2.pth", "step2.pth"]
    meta = torch.load(tmp_path / "step2.pth", weights_only=False)["meta"]
    assert (meta["epoch"], meta["iter"], meta["step"]) == (0, 2, 2)


def test_losses_of_val_by_epoch(tmp_path):
    runner, events = _runner(EpochRunner, tmp_path, max_epochs=2), Events()
    runner.register_hook(events)
    runner.run([_loader([1.0, 2.0]), _loader([7.0, 8.0, 9.0])], [("train", 1), ("val", 1)])
    assert [seen for seen in runner.model.seen if seen[0] == "val"] == [
        ("val", [value], False, False) for value in (7.0, 8.0, 9.0)
    ] * 2
    assert all(seen[2:] == (True, True) for seen in runner.model.seen if seen[0] == "train")
    steps = [("step", "val", number) for number in range(3)]
    assert events.seen == [("before", "val", -1), *steps, ("after", "val", -1)] * 2


@pytest.mark.parametrize("done", [0, 2])
def test_losses_of_val_by_step_go_on_with_the_next_images(done, tmp_path):
    """Rounds of two steps and three images of val; the second round, or a run that begins with it."""
    runner, events = _runner(IterRunner, tmp_path, max_iters=4), Events()
    runner._iter = done
    runner.register_hook(events)
    train, val = [1.0, 2.0, 3.0], [5.0, 6.0, 7.0, 8.0]
    flow = [("train", 2), ("val", 3)]
    runner.run([_loader(train, endless=True), _loader(val, endless=True)], flow)
    seen = [(mode, value) for mode, (value,), *_ in runner.model.seen]
    rounds = [
        [("train", 1.0), ("train", 2.0), ("val", 5.0), ("val", 6.0), ("val", 7.0)],
        [("train", 3.0), ("train", 1.0), ("val", 8.0), ("val", 5.0), ("val", 6.0)],
    ]
    assert seen == (rounds[1] if done else rounds[0] + rounds[1])
    one = [("before", *events.seen[0][1:]), *(("step", "val", number) for number in range(3)), ("after", "val", -1)]
    assert [event[0] for event in events.seen] == [event[0] for event in one] * (1 if done else 2)
    assert all(not training and not grad for mode, _, training, grad in runner.model.seen if mode == "val")
