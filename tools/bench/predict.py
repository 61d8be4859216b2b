"""Measure prediction on the CPU: networks and whole windows, with and without FDAM, side by side in one run.

    python tools/bench/predict.py --threads 2
    python tools/bench/predict.py --peer-python /path/to/environment/bin/python

'backbone and neck' rows run the files of fdam-rotate export --features. 'window' rows run all of Oriented R-CNN as
fdam-rotate predict runs it: preparing the pixels, backbone, neck, up to 2,000 proposals, heads, decoding and the
suppression of rotated boxes. 'torch planar' keeps the maps' channels apart in memory, as MMRotate's models have them;
'torch' has them side by side, as this package does by itself. bfloat16 is measured where the processor computes it.

Each round runs all by turns; a row gives the medians of the times, and the median and quartiles of the rounds' ratios,
so that a machine that changes its speed meanwhile does no harm. All but the peer share one process, in which freed
memory is kept as torch's prediction keeps it.

Weights are random (seeded), and pixels are noise. Untrained heads would score every class of every proposal above the
threshold: 30,000 boxes. So the last layer's scores are spread to a deviation of 2, and the background's bias is set so
that 500 pairs of proposal and class pass, as in a crowded window. All ways must find the same number of boxes within
one in a hundred, or the run fails.

The peer, YOLO11m-obb of Ultralytics in torch, also has random weights; it finds nothing, so its suppression is free.
It runs in a process of its own, by --peer-python where ultralytics lies in another environment, and is left out with a
line where there is none.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fdam_rotate.cli import run

_ROOT = Path(__file__).resolve().parents[2]
_CONFIGS = [
    _ROOT / "configs" / name
    for name in ("lsknet/lsk_s_fpn_1x_dota_le90.py", "lsknet_fdam/lsk_s_fdam_fpn_1x_dota_le90.py")
]
_PEER = Path(__file__).resolve().parent / "peers" / "yolo.py"

#: Pairs of proposal and class that are scored above the threshold, and the deviation of the class scores' logits.
_CANDIDATES, _SPREAD = 500, 2.0

_PLANAR, _BF16, _PEER_NAME = "torch planar", "openvino bfloat16", "YOLO11m-obb torch"


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024, help="side of the window, a multiple of 32 (default: 1024)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each measurement, at least 2 (default: 5)")
    parser.add_argument(
        "--configs",
        nargs=2,
        type=Path,
        default=_CONFIGS,
        metavar=("PLAIN", "FDAM"),
        help="two configs of Oriented R-CNN (default: LSKNet-S with FPN, and LSKNet-S-FDAM with FDAMFPN)",
    )
    parser.add_argument(
        "--peer-python", default=sys.executable, metavar="PATH", help="the Python that has ultralytics (default: this)"
    )
    parser.add_argument("--json", type=Path, help="write the table to this file too")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.rounds < 2 or args.threads < 1 or args.size < 32 or args.size % 32:
        parser.error("--rounds must be at least 2, --threads at least 1, --size a multiple of 32")
    from fdam_rotate.host.quiet import quiet_host

    quiet_host()
    import torch

    from fdam_rotate.apis.analysis.fdam_cost import ratio_line

    torch.set_num_threads(args.threads)
    names = [path.stem for path in args.configs]
    print(
        f"CPU, {args.threads} threads, windows of {args.size}, float32; plain: {names[0]}; FDAM: {names[1]}", flush=True
    )
    runtimes, notes = _runtimes()
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-predict-") as folder, _peer(args, notes) as peer:
        for note in notes:
            print(note, flush=True)
        models = {
            name: _Model(Path(folder), name, config, args.size)
            for name, config in zip(("plain", "FDAM"), args.configs, strict=True)
        }
        for measure in (_networks, _windows):
            for what, ours, other, result in measure(args, models, runtimes, peer):
                rows.append({"what": what, "ours": ours, "other": other, "unit": "ms", **result})
                print(ratio_line(rows[-1]), flush=True)
    if args.json:
        table = {"threads": args.threads, "size": args.size, "configs": names, "notes": notes, "rows": rows}
        args.json.write_text(json.dumps(table, indent=1) + "\n")
    return 0


def _runtimes() -> tuple[list[str], list[str]]:
    """The runtimes that are measured, and a line for each that is left out."""
    runtimes, notes = [], []
    for name in ("onnxruntime", "openvino"):
        if find_spec(name):
            runtimes.append(name)
        else:
            notes.append(f"{name}: left out, it is not installed")
    cpu = Path("/proc/cpuinfo")
    if "openvino" in runtimes:
        if cpu.exists() and {"avx512_bf16", "amx_bf16"} & set(cpu.read_text().split()):
            runtimes.append(_BF16)
        else:
            notes.append(f"{_BF16}: left out, the processor has neither avx512_bf16 nor amx_bf16")
    return runtimes, notes


class _Model:
    """One config with random weights: its checkpoint, and what is exported of it.

    Attributes:
        window: pixels (size, size, 3), blue, green, red.
    """

    def __init__(self, folder: Path, name: str, config: Path, size: int) -> None:
        import numpy as np

        from fdam_rotate.apis.analysis.features import build_model
        from fdam_rotate.apis.checkpoints.checkpoint import save_checkpoint_file
        from fdam_rotate.apis.compat import load_config, test_data
        from fdam_rotate.apis.exporting.detector import class_names, export_detector, preparation
        from fdam_rotate.apis.exporting.features import export_features

        self.config, self.checkpoint = config, folder / f"{name}.safetensors"
        self.whole, self.features = folder / f"{name}.onnx", folder / f"{name}_features.onnx"
        self.window = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
        steps = test_data(load_config(config, needs=("model", "data"))).pipeline
        self.options = {
            f"data.test.pipeline.{number}.img_scale": (size, size)
            for number, step in enumerate(steps)
            if "img_scale" in step
        }
        detector, cfg = build_model(config, options=self.options)
        _few_candidates(detector, preparation(cfg), self.window)
        classes = class_names(cfg)
        save_checkpoint_file(self.checkpoint, detector.state_dict(), {"CLASSES": classes})
        export_detector(detector, self.whole, (size, size), steps=preparation(cfg), classes=classes, config=config.name)
        report = export_features(detector, self.features, (size, size), check=False)
        self.outputs = [output for output, _ in report.outputs]

    def in_torch(self, planar: bool, threads: int) -> Any:
        """As `fdam-rotate predict CONFIG CHECKPOINT` runs it."""
        from fdam_rotate.apis.compat import load_config
        from fdam_rotate.apis.predict import TorchModel

        cfg = load_config(self.config, self.options, needs=("model", "data"))
        if planar:
            cfg.model.backbone.channels_last = False
        model = TorchModel(cfg, self.checkpoint, device="cpu")
        model.prepare(threads)
        return model


def _few_candidates(detector: Any, steps: Mapping[str, Any], window: Any) -> None:
    """Set the last layer of the classes such that `_CANDIDATES` pairs of proposal and class pass in this window."""
    import torch

    from fdam_rotate.apis.exporting.detector import candidates_of

    model = candidates_of(detector, steps)
    seen = []
    model.head.head.fc_cls.register_forward_hook(lambda layer, inputs, output: seen.append(output))
    with torch.no_grad():
        model(torch.from_numpy(window[..., ::-1].copy()).permute(2, 0, 1)[None])
        last, logits = detector.roi_head.bbox_head.fc_cls, seen[0]
        mean, gain = logits.mean(0), _SPREAD / logits.std(0)
        logits = (logits - mean) * gain
        last.weight.mul_(gain[:, None])
        last.bias.copy_((last.bias - mean) * gain)
        # of a pair, score > threshold means that the bias of the background's logit is below this
        odds = logits[:, :-1].exp()
        limits = (odds / model.score_thr - odds.sum(1, keepdim=True)).clamp(min=1e-30).log() - logits[:, -1:]
        last.bias[-1] += limits.flatten().topk(_CANDIDATES + 1).values[-2:].mean()


_Measured = Iterator[tuple[str, str, str, dict[str, Any]]]


def _networks(
    args: argparse.Namespace, models: Mapping[str, _Model], runtimes: Sequence[str], peer: Callable[[], None] | None
) -> _Measured:
    """Yield a row for each runtime: backbone and neck with FDAM beside those without."""
    import numpy as np
    import torch

    from fdam_rotate.apis.analysis.fdam_cost import paired_ratio, time_by_turns
    from fdam_rotate.dota.predicting.onnx_model import open_session

    image = np.random.default_rng(0).standard_normal((1, 3, args.size, args.size)).astype(np.float32)
    tasks = {}
    for name, model in models.items():
        for runtime in runtimes:
            precision = "bf16" if runtime == _BF16 else "f32"
            session = open_session(
                runtime.split()[0], model.features, threads=args.threads, outputs=model.outputs, precision=precision
            )
            tasks[f"{name} {runtime}"] = lambda session=session: session(image)
    times = time_by_turns(tasks, args.rounds, torch.device("cpu"), warmup=1)
    for runtime in runtimes:
        pair = f"FDAM {runtime}", f"plain {runtime}"
        yield "backbone and neck", *pair, paired_ratio(times, *pair)


def _windows(
    args: argparse.Namespace, models: Mapping[str, _Model], runtimes: Sequence[str], peer: Callable[[], None] | None
) -> _Measured:
    """Yield rows of whole windows: each way beside planar torch, with FDAM beside without, and beside the peer.

    Raises:
        DotaError: the ways find different numbers of boxes.
    """
    import torch

    from fdam_rotate.apis.analysis.fdam_cost import paired_ratio, time_by_turns
    from fdam_rotate.dota.errors import DotaError
    from fdam_rotate.dota.predicting.onnx_model import OnnxModel

    tasks, counts = {}, {}

    def add(task: str, model: Any, window: Any) -> None:
        def once() -> None:
            counts[task] = len(model.detect([window])[0].scores)

        tasks[task] = once

    ways = [_PLANAR, "torch", *(runtime for runtime in runtimes if runtime != _BF16)]
    for name, model in models.items():
        for way in ways:
            if way.startswith("torch"):
                runner = model.in_torch(way == _PLANAR, args.threads)
            else:
                runner = OnnxModel(model.whole, runtime=way, threads=args.threads)
                runner.prepare()
            add(f"{name} {way}", runner, model.window)
    if peer is not None:
        tasks[_PEER_NAME] = peer
    times = time_by_turns(tasks, args.rounds, torch.device("cpu"), warmup=1)
    for name in models:
        found = [counts[f"{name} {way}"] for way in ways]
        if max(found) > 1.01 * min(found) + 1:
            each = ", ".join(f"{count} in {way}" for count, way in zip(found, ways, strict=True))
            raise DotaError(f"{name}: the ways find different numbers of boxes in the same window: {each}")
        for way in ways[1:]:
            pair = f"{name} {way}", f"{name} {_PLANAR}"
            yield f"window, {found[0]} boxes", *pair, paired_ratio(times, *pair)
    pairs = [(f"FDAM {way}", f"plain {way}") for way in ways]
    if peer is not None:
        pairs += [(f"{name} {way}", _PEER_NAME) for name in models for way in ways[1:]]
    for ours, other in pairs:
        yield "window", ours, other, paired_ratio(times, ours, other)


@contextmanager
def _peer(args: argparse.Namespace, notes: list[str]) -> Iterator[Callable[[], None] | None]:
    """What predicts one window by the peer, in its own process; None, and a line in ``notes``, where there is none."""
    command = [args.peer_python, str(_PEER), "--size", str(args.size), "--threads", str(args.threads)]
    with tempfile.TemporaryFile("w+") as errors:
        try:
            child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)
        except OSError as error:
            notes.append(f"{_PEER_NAME}: left out, --peer-python {args.peer_python}: {error.strerror}")
            yield None
            return
        try:
            state, _, what = _answer(child).partition(" ")
            ready = state == "ready"
            if not ready:
                errors.seek(0)
                what = what or (errors.read().strip().splitlines() or ["it says nothing"])[-1]
            notes.append(f"{_PEER_NAME}: {'' if ready else f'left out, {args.peer_python}: '}{what}")
            yield (lambda: _predict_by(child)) if ready else None
        finally:
            child.communicate(timeout=60)  # the end of its input ends it


def _predict_by(child: subprocess.Popen[str]) -> None:
    """One window by the peer.

    Raises:
        DotaError: it ended.
    """
    from fdam_rotate.dota.errors import DotaError

    assert child.stdin is not None
    with suppress(BrokenPipeError):
        child.stdin.write("\n")
        child.stdin.flush()
    if _answer(child) != "done":
        raise DotaError(f"{_PEER_NAME} ended in the middle of the measurement; leave it out by --peer-python none")


def _answer(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


if __name__ == "__main__":
    run(main)
