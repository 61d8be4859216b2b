"""Show what is installed and check that it works: versions, imports, compiled ops against hand-worked values.

    fdam-rotate doctor

Ends with 'ok' (exit 0), or with one line for each thing that is wrong and the command that mends it (exit 1).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from fdam_rotate.commands.parser import CommandParser, command_parser


def build_parser() -> CommandParser:
    """One flag."""
    parser = command_parser("doctor", __doc__, "tools/doctor.py")
    parser.add_argument("--quiet", action="store_true", help="print only what is wrong, and the last line")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print versions, run the checks on the CPU and on a GPU if there is one."""
    args = build_parser().parse_args(argv)
    if sys.version_info[:2] not in ((3, 11), (3, 12)):
        print(f"Python {sys.version.split()[0]}: 3.11 or 3.12 is needed: PYTHON=python3.11 make install")
        return 1
    try:
        import torch
    except Exception as error:  # a broken build may raise anything
        print(f"import torch failed ({type(error).__name__}: {error}): rm -rf .venv && make install")
        return 1
    from fdam_rotate.host.quiet import quiet_host

    quiet_host()
    from fdam_rotate.apis.doctor import check_kernels, check_ops, check_versions, versions

    if not args.quiet:
        for name, version in versions().items():
            print(f"{name:24} {version}")
    problems = check_versions()
    if not problems:
        problems += check_kernels()
        if not args.quiet and not problems:
            print(f"{'FreqScale on cpu':24} C++: right")
        for device in ["cpu"] + (["cuda"] if torch.cuda.is_available() else []):
            found = check_ops(device)
            problems += found
            if not args.quiet and not found:
                print(f"{'ops on ' + device:24} box_iou_rotated, nms_rotated, RoIAlignRotated: right")
    for problem in problems:
        print(problem)
    if not problems:
        print("ok")
    return int(bool(problems))
