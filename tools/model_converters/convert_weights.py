"""Turn a checkpoint, ours or a published one (MoCo, CLSA, SwAV, PIRL ...), into the plain weights of its backbone, or
one of two towers (ITRA, ProtoCLIP, open_clip) into ours."""

import argparse
import sys
from pathlib import Path

EXAMPLE = """example:
  python tools/model_converters/convert_weights.py moco_v2_800ep.pth.tar weights/moco_v2.pth --source moco

Heads, queues and momentum copies are left out. Every tensor of the backbone must be there, else nothing is written.
--target virb writes the flat file of ViRB as its own scripts do (they are read, too: --source virb). --target
detectron2 writes the pickle of that library. --target moco writes a whole MoCo or CLSA run of ours as the published
repository would; --target clear turns that repository's checkpoints into ours, to train on (load_from).

  python tools/model_converters/convert_weights.py epoch_32.pt weights/itra.pth --config configs/my/run.py

  python tools/model_converters/convert_weights.py work_dirs/run/exp_3.pth run.pth --to mmpretrain

A run of ours, backbone and classifier, for mmpretrain, timm or torchvision, which load it strictly.

With the config of an alignment it is both towers, their heads and the scale, for load_from, AlignedEncoder and
tools/test.py. The config describes the run that wrote IN; all of IN must find a place, or be named with --drop.
"""
SOURCES = ('auto', 'moco', 'clsa', 'swav', 'simsiam', 'pirl', 'exemplar', 'humantorch', 'virb', 'byol', 'mmpretrain',
           'torchvision', 'timm', 'openclip', 'openclip_text', 'clear', 'efficientnet_pytorch', 'itra', 'protoclip',
           'dino', 'microsoft', 'timm_vit', 'dino_vit', 'torchvision_vit', 'openclip_vit', 'timm_convnext',
           'torchvision_convnext', 'facebook_convnext', 'timm_swin', 'torchvision_swin', 'microsoft_swin',
           'timm_swin_v2', 'microsoft_swin_v2', 'timm_regnet', 'torchvision_regnet', 'timm_mobilenet_v2',
           'torchvision_mobilenet_v2', 'torchvision_mobilenet_v3', 'lightly', 'lightly_teacher', 'lightly_student',
           'lightly_resnet', 'solo')
RUN_TARGETS = ('mmpretrain', 'timm', 'torchvision', 'lightly')
TARGETS = ('torchvision', 'mmpretrain', 'virb', 'detectron2', 'moco', 'clear')


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('input', metavar='IN', help='checkpoint of tensors and plain values (.pth, .safetensors ...)')
    parser.add_argument('output', metavar='OUT', type=Path, help='file to write; .safetensors is written as such')
    parser.add_argument('--source', choices=SOURCES, default='auto', help='whose names IN uses (default: what fits)')
    parser.add_argument('--arch', default='resnet50', help='network of torchvision, or timm/NAME, open_clip/NAME, '
                        'cifar/resnet18 (3 x 3 stem)')
    parser.add_argument('--target', choices=TARGETS, default='torchvision',
                        help='whose names OUT uses (default: those of the library of --arch)')
    parser.add_argument('--to', choices=RUN_TARGETS, help='IN is a run of ours: write its backbone and classifier as '
                        'that library has them')
    parser.add_argument('--config', metavar='CONFIG', help='IN is a pair of towers: the config of an alignment whose '
                        'model OUT is for')
    parser.add_argument('--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE',
                        help='override fields of CONFIG, e.g. model.text_encoder.quick_gelu=True')
    parser.add_argument('--drop', nargs='+', action='extend', default=[], metavar='NAME',
                        help='beginnings of names in IN to leave out of a pair, e.g. text_projection_head')
    parser.add_argument('--sanity', metavar='FOLDER', help='also print the nearest-class-mean accuracy on the images '
                        'FOLDER/<class>/<file>, beside that of random weights')
    parser.add_argument('--max-images', type=int, default=400, help='images that --sanity reads (default: 400)')
    parser.add_argument('--overwrite', action='store_true', help='replace OUT')
    parser.add_argument('--dry-run', action='store_true', help='check everything, write nothing')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> int:
    from clear.core.errors import ConfigError
    from clear.core.logs import setup_logging
    from clear.models.converters.convert import check_output, convert_weights

    if args.output.exists() and not (args.overwrite or args.dry_run):
        raise ConfigError(f'{args.output} exists; replace it with --overwrite.')
    if args.to:
        return run_export(args)
    if args.config:
        return run_pair(args)
    for name in ('cfg_options', 'drop'):
        if getattr(args, name):
            raise ConfigError(f'--{name.replace("_", "-")} goes with --config, for pairs of towers.')
    check_output(args.output, args.target)
    setup_logging(None)
    done = convert_weights(args.input, source=args.source, arch=args.arch, target=args.target)
    print(f'{args.input}: {done.report.source} -> {args.target} {args.arch}')
    if args.target in ('moco', 'clear'):
        print(f"kept {len(done.state['state_dict'])} tensors, the whole of the pretraining run without its optimiser")
    else:
        left = '' if args.target == 'virb' else f', dropped {len(done.report.unexpected)}'
        print(f'kept {len(done.state)} tensors{left}')
    if args.sanity:
        check_sanity(done.encoder, args.arch, args.sanity, args.max_images)
    return write(args, done.state, args.target)


def run_export(args: argparse.Namespace) -> int:
    from clear.core.errors import ConfigError
    from clear.core.logs import setup_logging
    from clear.models.converters.convert import check_output
    from clear.models.converters.runs import export_run

    for name, default in (('source', 'auto'), ('arch', 'resnet50'), ('target', 'torchvision'), ('config', None),
                          ('cfg_options', None), ('drop', []), ('sanity', None)):
        if getattr(args, name) != default:
            raise ConfigError(f'--{name.replace("_", "-")} does not go with --to: the run says what it is.')
    check_output(args.output, 'clear' if args.to == 'mmpretrain' else args.to)
    setup_logging(None)
    done = export_run(args.input, args.to)
    print(f'{args.input}: -> {args.to}, {done.num_backbone} tensors of the backbone, {done.num_head} of the classifier')
    if done.left_out:
        print(f'left out ({len(done.left_out)}): {", ".join(done.left_out[:4])}{" ..." if done.left_out[4:] else ""}')
    return write(args, done.content)


def run_pair(args: argparse.Namespace) -> int:
    from clear.core.config import load_config
    from clear.core.configs.options import parse_options
    from clear.core.errors import ConfigError
    from clear.core.logs import setup_logging
    from clear.models.converters.convert import check_output
    from clear.models.converters.pairs import convert_pair

    if args.sanity or args.target not in ('torchvision', 'clear'):
        raise ConfigError('--config writes a pair of towers as ours; --sanity and --target are for backbones.')
    check_output(args.output, 'clear')
    setup_logging(None)
    cfg = load_config(args.config, parse_options(args.cfg_options or []))[0].to_dict()
    if 'model' not in cfg:
        raise ConfigError(f'{args.config} has no model.')
    done = convert_pair(args.input, cfg['model'], source=args.source, drop=args.drop)
    print(f'{args.input}: {done.source} -> clear, {len(done.state) - len(done.kept)} tensors')
    for title, names in (('left out', done.unused), ('as the config makes it', done.kept)):
        for name in names:
            print(f'{title}: {name}')
    return write(args, dict(state_dict=done.state), 'clear')


def write(args: argparse.Namespace, content: dict, target: str = 'torchvision') -> int:
    from clear.models.converters.convert import check_content, write_weights

    if args.dry_run:
        check_content(content)
        print('dry run: nothing was written')
        return 0
    write_weights(args.output, content, target)
    print(f'wrote {args.output}')
    return 0


def check_sanity(encoder, arch: str, folder: str, max_images: int) -> None:
    import torch

    from clear.features.sanity import read_labelled_images, sanity_ncm
    from clear.models.converters.convert import random_encoder

    images, labels, names = read_labelled_images(folder, encoder.preprocess, max_images)
    torch.manual_seed(0)
    found, chance = sanity_ncm(encoder, images, labels), sanity_ncm(random_encoder(arch), images, labels)
    print(f'nearest class mean on {len(images)} images of {len(names)} classes: {found:.3f}, '
          f'random weights {chance:.3f}')


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: run(parse_args(argv)))


if __name__ == '__main__':
    sys.exit(main())
