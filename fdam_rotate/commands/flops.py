"""Count parameters and multiply-adds of detectors, FFTs included, for one image.

    fdam-rotate flops configs/lsknet/lsk_s_fpn_1x_dota_le90.py \
        configs/lsknet_fdam/lsk_s_fdam_fpn_1x_dota_le90.py --shape 1024 1024

Counts convolutions, linear layers, matrix products, attention and FFTs (1.25 N log2 N for a real one); activations,
norms and sums are not counted. A box head is counted on 1000 proposals. Nothing is computed, so that any size is quick,
except where mmcv's own operators are needed (S2A-Net, R3Det).
"""

from __future__ import annotations

from collections.abc import Sequence

from fdam_rotate.commands.parser import CommandParser, command_parser
from fdam_rotate.commands.values import config_file, positive_int


def build_parser() -> CommandParser:
    """Configs and an image size."""
    parser = command_parser("flops", __doc__, "tools/analysis/flops.py")
    parser.add_argument("configs", nargs="+", type=config_file, help="config files (Python)")
    parser.add_argument(
        "--shape", nargs=2, type=positive_int, default=[1024, 1024], metavar=("H", "W"), help="pixels (1024 1024)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Count and print."""
    args = build_parser().parse_args(argv)
    from fdam_rotate.host.quiet import quiet_host

    quiet_host()
    from fdam_rotate.apis.analysis.features import build_model
    from fdam_rotate.apis.analysis.flops import detector_costs

    width = max(len(path.stem) for path in args.configs)
    print(f"{'config':{width}}  {'part':8}  {'parameters':>12}  {'multiply-adds':>13}  {'of these FFT':>12}")
    for path in args.configs:
        model, _ = build_model(path)
        for cost in detector_costs(model, tuple(args.shape)):
            macs, fft = (f"{value / 1e9:.2f} G" for value in (cost.macs, cost.fft_macs))
            print(f"{path.stem:{width}}  {cost.name:8}  {cost.params / 1e6:10.2f} M  {macs:>13}  {fft:>12}")
    return 0
