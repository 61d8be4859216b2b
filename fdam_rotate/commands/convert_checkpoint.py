"""Turn a published checkpoint into a tensors-only file for one model, and say what became of every tensor.

    fdam-rotate convert-checkpoint lsk_s_backbone.pth.tar --out lsk_s.safetensors --to LSKNetFDAM
    fdam-rotate convert-checkpoint lsk_s_fpn_1x_dota_le90.pth --out lsk_s_dota.pth --config lsk_s_fpn_1x_dota_le90
    fdam-rotate convert-checkpoint work_dirs/run/latest.pth --out run.safetensors

Reads LSKNet's ImageNet backbones and whole detectors, FDAM's and DeiT-III's ViT, SegFormer's MiT, and any MMRotate
checkpoint: nested dicts, `module.` and `backbone.` prefixes, classifier heads, optimizer state and EMA copies are dealt
with. The result can be named in a config as model.backbone.init_cfg.checkpoint, or given to fdam-rotate test.
Conversion changes no licence: LSKNet's published weights stay CC BY-NC 4.0.
"""

from __future__ import annotations

from collections.abc import Sequence

from fdam_rotate.commands.arguments import add_out, add_overwrite, add_unsafe_load
from fdam_rotate.commands.parser import CommandParser, command_parser
from fdam_rotate.commands.values import config_file, existing_file

BACKBONES = ["LSKNet", "LSKNetFDAM", "ViTFDAM", "MiTFDAM"]


def build_parser() -> CommandParser:
    """Two files, and the model that the second is for."""
    parser = command_parser("convert-checkpoint", __doc__, "tools/convert_checkpoint.py")
    parser.add_argument("source", type=existing_file, help="checkpoint to read: .pth, .pt, .tar or .safetensors")
    add_out(parser, "file to write: .pth, .pt or .safetensors; must not exist", metavar="FILE")
    parser.add_former_out("TARGET")
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--to", choices=BACKBONES, help="a bare backbone; T, S or B is read off the tensors")
    model.add_argument("--config", type=config_file, help="a whole detector, given by its config file")
    parser.add_argument("--drop-refused", action="store_true", help="write the rest where tensors do not fit the model")
    add_overwrite(parser, "--out")
    add_unsafe_load(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Convert, and print the report."""
    args = build_parser().parse_args(argv)
    from fdam_rotate.host.quiet import quiet_host

    quiet_host()
    from fdam_rotate.apis.checkpoints.checkpoint import load_checkpoint_file
    from fdam_rotate.apis.checkpoints.convert import convert_checkpoint

    report = convert_checkpoint(
        args.source,
        args.out,
        to=args.to,
        config=args.config,
        unsafe=args.unsafe_load,
        drop_refused=args.drop_refused,
        overwrite=args.overwrite,
    )
    if report is not None:
        print(report.table())
    written = load_checkpoint_file(args.out)
    if written["meta"]["licence"]:
        print(f"licence: {written['meta']['licence']}; conversion does not change that")
    size = args.out.stat().st_size / 1e6
    print(f"wrote {args.out}: {len(written['state_dict'])} tensors, {size:.1f} MB")
    return 0
