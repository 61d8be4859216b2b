"""Show which frequencies each layer of a trained detector keeps, with FDAM and with FDAM switched off.

    fdam-rotate spectrum CONFIG CHECKPOINT --img-dir data/DOTA/val/images --out work_dirs/spectrum
    fdam-rotate spectrum FDAM_CONFIG FDAM.pth --img-dir DIR --out OUT --second PLAIN_CONFIG PLAIN.pth

Writes OUT/spectrum.png (log amplitude over frequency for each layer, and the share of energy above half of Nyquist) and
OUT/spectrum.json with the same numbers, and prints a table. "FDAM off" is the same checkpoint with AttInv's gammas and
FreqScale's filters at zero: what FDAM does to these very weights. For a model trained without it use --second.
"""

from __future__ import annotations

from collections.abc import Sequence

from fdam_rotate.commands.arguments import add_run_arguments, measure_layers
from fdam_rotate.commands.parser import CommandParser, command_parser


def build_parser() -> CommandParser:
    """A model, images, and a folder for the results."""
    parser = command_parser("spectrum", __doc__, "tools/analysis/spectrum.py")
    add_run_arguments(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, draw and print."""
    args = build_parser().parse_args(argv)
    from fdam_rotate.host.quiet import quiet_host

    quiet_host()
    from fdam_rotate.apis.analysis.runs import layer_table, to_json
    from fdam_rotate.apis.analysis.spectrum import layer_spectra
    from fdam_rotate.dota.files import write_text

    runs = measure_layers(args, layer_spectra, "spectrum")
    from fdam_rotate.apis.analysis.pictures import draw_spectra

    draw_spectra(args.out / "spectrum.png", runs)
    rows = {
        name: [
            {
                "layer": s.name,
                "shape": s.shape,
                "high_frequency_energy": s.high_energy,
                "frequency": s.radii.tolist(),
                "log_amplitude": s.log_amplitude.tolist(),
            }
            for s in layers
        ]
        for name, layers in runs.items()
    }
    write_text(args.out / "spectrum.json", to_json(rows))
    print("share of energy above half of Nyquist")
    print(*layer_table(runs, lambda s: f"{s.high_energy:.4f}"), sep="\n")
    print(f"wrote {args.out / 'spectrum.png'} and {args.out / 'spectrum.json'}")
    return 0
