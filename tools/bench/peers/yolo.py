"""YOLO11m-obb of Ultralytics (AGPL-3.0), a window each time a line comes in: the peer of tools/bench/predict.py.

It runs in whatever environment has ultralytics, and needs nothing of this checkout. Weights are random, from the
package's own yaml with DOTA's 15 classes; nothing is downloaded. What is timed is Ultralytics' own `predict` on pixels:
its resizing, network and suppression.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile


def main() -> int:
    """Say ``ready`` and what this is, then ``done`` after each window; the end of the input ends it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024, help="side of the window in pixels (default: 1024)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2)")
    args = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the package prints goes to stderr
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(YOLO_CONFIG_DIR=folder, YOLO_OFFLINE="true")
        try:
            import ultralytics
        except ImportError as error:
            print(f"absent {error}", file=answers, flush=True)
            return 0
        import numpy as np
        import torch
        from ultralytics.nn.tasks import OBBModel

        torch.set_num_threads(args.threads)
        torch.manual_seed(0)
        model = ultralytics.YOLO("yolo11m-obb.yaml", task="obb")
        settings = model.model.args
        model.model = OBBModel("yolo11m-obb.yaml", nc=15, verbose=False)
        model.model.args, model.model.task = settings, "obb"
        weights = sum(parameter.numel() for parameter in model.model.parameters()) / 1e6
        window = np.random.default_rng(0).integers(0, 256, (args.size, args.size, 3), dtype=np.uint8)

        def predict() -> None:
            model.predict(window, imgsz=args.size, device="cpu", verbose=False)

        predict()
        torch.set_num_threads(args.threads)  # the first call may have chosen a number of its own
        name = f"ultralytics {ultralytics.__version__}, torch {torch.__version__}, {weights:.1f} M parameters"
        print(f"ready {name}", file=answers, flush=True)
        for _ in sys.stdin:
            predict()
            print("done", file=answers, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
