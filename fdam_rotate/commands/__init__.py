"""The commands: one module each, with ``build_parser()`` and ``main(argv)``, which returns the exit code.

``fdam-rotate NAME ...`` runs them once the package is installed; the scripts in tools/ and data_prep/ are the same
commands for a checkout. This module imports none of them before one is asked for, so that ``--help`` comes at once.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

__all__ = ["COMMANDS", "console", "main"]

#: Name -> what the command does, in the order of use.
COMMANDS = {
    "download": "fetch DOTA, or unpack the archives of its page",
    "synthetic": "generate scenes with labels, for trying everything without a data set",
    "verify": "check a data set, or a split of one",
    "convert-labels": "convert a data set between DOTA, YOLO-OBB, COCO and the formats of labelling tools",
    "split": "split images and labels into patches",
    "train": "train a detector",
    "test": "predict every patch of a data set; score, submit or draw",
    "compare": "train configs alike over several seeds and report what one gains",
    "predict": "detect on whole images of any size",
    "merge": "merge detections on patches into detections on whole images",
    "evaluate": "score detections on whole images",
    "submit": "pack detections for the DOTA server, or check a zip",
    "show": "draw detections and labels on whole images",
    "export": "export a detector to ONNX or TorchScript",
    "convert-checkpoint": "turn a published checkpoint into one for a model here",
    "benchmark": "time detectors side by side",
    "flops": "count operations and parameters of a detector",
    "spectrum": "measure how a detector's features keep high frequencies",
    "feature-rank": "measure how many directions a detector's features span",
    "demo": "run the whole path once, on generated scenes or your own data",
    "gpu-check": "check on a GPU what only a GPU can show",
    "doctor": "show what is installed and check that it works",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the first word names, with the words after it; returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return 0 if words else 2
    name, *rest = words
    if name == "--version":
        from fdam_rotate import __version__

        print(__version__)
        return 0
    if name not in COMMANDS:
        from fdam_rotate.dota.names import did_you_mean

        print(f"fdam-rotate: there is no command {name!r}{did_you_mean(name, COMMANDS)}", file=sys.stderr)
        print("fdam-rotate --help lists them", file=sys.stderr)
        return 2
    module = importlib.import_module(f"fdam_rotate.commands.{name.replace('-', '_')}")
    return int(module.main(rest))


def console() -> None:
    """The installed command ``fdam-rotate``."""
    from fdam_rotate.cli import run

    run(main)


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join(
        [
            "usage: fdam-rotate COMMAND ...",
            "",
            *lines,
            "",
            "fdam-rotate COMMAND --help explains a command. From a checkout, python tools/COMMAND.py and",
            "python data_prep/COMMAND.py are the same commands.",
        ]
    )
