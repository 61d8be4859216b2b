"""Check on a GPU everything that only a GPU can show, in at most eight minutes.

    fdam-rotate gpu-check --out work_dirs/gpu_check
    fdam-rotate gpu-check --device cpu --out work_dirs/rehearsal

mmcv's CUDA operations, every backbone, neck and detector against the CPU; training in float16 and bfloat16; what FDAM
costs; windows per second of predict; two processes with NCCL where there are two GPUs. Writes gpu_check.json and the
same as a table, gpu_check.md (docs/gpu.md says what its rows mean), and gpu_check.log. What cannot run is skipped with
its reason, what fails is reported, and the rest goes on. --device cpu rehearses all of it with small sizes.

Exit code: 0 nothing is wrong; 1 something is, or this machine has no such GPU; 2 wrong usage.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from fdam_rotate.commands.arguments import add_device, add_out, add_overwrite
from fdam_rotate.commands.parser import CommandParser, command_parser
from fdam_rotate.commands.values import config_folder


def build_parser() -> CommandParser:
    """Where to, on what, and which parts."""
    parser = command_parser("gpu-check", __doc__, "tools/gpu_check.py")
    add_out(parser, "folder of the report")
    add_device(parser, "; on the CPU it is a rehearsal")
    parser.add_argument("--parts", nargs="+", metavar="PART", help="only these (default: all)")
    add_overwrite(parser, "the report of an earlier check in --out")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the parts, and say what is wrong."""
    parser = build_parser()
    args = parser.parse_args(argv)

    from fdam_rotate.apis.gpu_check.plan import PARTS
    from fdam_rotate.apis.gpu_check.report import NAMES, summary
    from fdam_rotate.apis.gpu_check.supervise import LOG, supervise
    from fdam_rotate.apis.runtime import find_device
    from fdam_rotate.dota.outputs import claim_folder

    known = {part.name: part for part in PARTS}
    if unknown := [name for name in args.parts or () if name not in known]:
        parser.error(f"--parts: there is no {', '.join(unknown)}; there are {', '.join(known)}")
    device = str(find_device(args.device))
    names = [*NAMES, LOG]
    claim_folder(args.out, names, own=names, overwrite=args.overwrite)
    words = ["fdam-rotate", "gpu-check", *map(str, argv if argv is not None else sys.argv[1:])]
    parts = [known[name] for name in dict.fromkeys(args.parts or known)]
    report = supervise(args.out, config_folder(), shlex.join(words), device=device, parts=parts)
    print((args.out / NAMES[1]).read_text(encoding="utf-8"))
    print(f"{summary(report)}; report: {args.out / NAMES[1]}, {NAMES[0]} and {LOG} beside it")
    return int(any(row.bad for row in report.rows))
