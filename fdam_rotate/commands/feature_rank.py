"""Show by depth how many directions the features of a detector span, and how alike its places have become.

    fdam-rotate feature-rank CONFIG CHECKPOINT --img-dir data/DOTA/val/images --out work_dirs/rank
    fdam-rotate feature-rank FDAM_CONFIG FDAM.pth --img-dir DIR --out OUT --second PLAIN_CONFIG PLAIN.pth

Writes OUT/feature_rank.png and OUT/feature_rank.json and prints a table: effective rank (exponential of the entropy of
the singular values, at most the lesser of channels and places), and the mean cosine similarity between places. A low
rank and a cosine near 1 are the collapse that FDAM is meant to prevent. "FDAM off" is the same checkpoint with AttInv's
gammas and FreqScale's filters at zero; for a model trained without FDAM use --second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from fdam_rotate.commands.arguments import add_run_arguments, measure_layers
from fdam_rotate.commands.parser import CommandParser, command_parser


def build_parser() -> CommandParser:
    """A model, images, and a folder for the results."""
    parser = command_parser("feature-rank", __doc__, "tools/analysis/feature_rank.py")
    add_run_arguments(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, draw and print."""
    args = build_parser().parse_args(argv)
    from fdam_rotate.host.quiet import quiet_host

    quiet_host()
    from fdam_rotate.apis.analysis.rank import layer_ranks
    from fdam_rotate.apis.analysis.runs import layer_table, to_json
    from fdam_rotate.dota.files import write_text

    runs = measure_layers(args, layer_ranks, "feature_rank")
    from fdam_rotate.apis.analysis.pictures import draw_ranks

    draw_ranks(args.out / "feature_rank.png", runs)
    rows = {name: [asdict(layer) for layer in layers] for name, layers in runs.items()}
    write_text(args.out / "feature_rank.json", to_json(rows))
    print("effective rank (of the largest possible), mean cosine between places")
    print(*layer_table(runs, lambda r: f"{r.effective_rank:.1f} ({r.relative_rank:.2f}) {r.cosine:8.3f}"), sep="\n")
    print(f"wrote {args.out / 'feature_rank.png'} and {args.out / 'feature_rank.json'}")
    return 0
