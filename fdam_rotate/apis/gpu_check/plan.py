"""The parts of the check, the seconds that each may take, and the sizes of what they compute."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FULL", "PARTS", "REHEARSAL", "REHEARSAL_TIMES", "Part", "Sizes"]


@dataclass(frozen=True)
class Part:
    """A part of the check.

    Attributes:
        name: of it, and of its module here.
        seconds: that it may take, the start of its process included.
        what: it looks at.
    """

    name: str
    seconds: int
    what: str


#: In their order: first what all else rests on. Together less than eight minutes.
PARTS = (
    Part("machine", 30, "what is installed"),
    Part("operations", 45, "mmcv's CUDA operations against the CPU's"),
    Part("networks", 60, "every backbone and neck, forward and backward, against the CPU in float32"),
    Part("detectors", 45, "a training step and a prediction of every kind of detector, against the CPU"),
    Part("precision", 65, "50 steps in float32, float16 with loss scaling and bfloat16"),
    Part("cost", 120, "what FDAM adds to LSKNet-S: time and memory"),
    Part("prediction", 65, "training in float16 as tools/train.py does it; windows per second of predict"),
    Part("processes", 30, "two processes that share their gradients"),
)


@dataclass(frozen=True)
class Sizes:
    """How large everything is.

    Attributes:
        boxes: of the operations.
        widths: channels of LSKNet's stages.
        depths: their blocks.
        network: side of the networks' images, pixels.
        detector: side of the detectors' images.
        proposals: that a detector's second stage gets of an image, and half as many that it is trained on.
        hidden: width of its layers.
        precision: side of the images that the three precisions are trained on.
        steps: of each precision.
        cost: side of the images of the cost, and
        cost_batch: how many.
        rounds: of each timing.
        scene: side of the image that predict reads, and
        window: that of its windows; their overlap is a fifth.
    """

    boxes: int
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    network: int
    detector: int
    proposals: int
    hidden: int
    precision: int
    steps: int
    cost: int
    cost_batch: int
    rounds: int
    scene: int
    window: int


#: On a GPU.
FULL = Sizes(
    boxes=2000,
    widths=(64, 128, 320, 512),
    depths=(2, 2, 4, 2),
    network=256,
    detector=256,
    proposals=2000,
    hidden=1024,
    precision=512,
    steps=50,
    cost=1024,
    cost_batch=2,
    rounds=10,
    scene=6144,
    window=1024,
)

#: A rehearsal may take so many times the seconds of the parts: it looks for mistakes, on any machine.
REHEARSAL_TIMES = 10

#: On the CPU, to find mistakes in the check itself.
REHEARSAL = Sizes(
    boxes=200,
    widths=(16, 32, 80, 128),
    depths=(1, 1, 1, 1),
    network=64,
    detector=64,
    proposals=60,
    hidden=64,
    precision=64,
    steps=4,
    cost=32,
    cost_batch=2,
    rounds=2,
    scene=192,
    window=128,
)
