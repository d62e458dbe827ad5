"""Options about images, models and simulation that several commands have, and what they stand for."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negspike.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from negspike.data.registry import DatasetSpec
    from negspike.data.samples import Samples
    from negspike.spiking.graph import SpikingNetwork


# Options that prepare pixels.
PREPARATION = ("size", "crop", "channels", "mean", "std", "per_image")


def add_model_options(parser: argparse.ArgumentParser, *, positional: bool) -> None:
    """A model by name, and its weights."""
    what = "my_nets.py:build or package.module.build, a function that makes it"
    parser.add_argument("model" if positional else "--model", metavar="MODEL", help=what)
    parser.add_argument("--weights", type=Path, metavar="FILE", help="its weights, .safetensors or a state dict")


def add_image_options(parser: argparse.ArgumentParser) -> None:
    """How images are prepared."""
    group = parser.add_argument_group("images", "as they were prepared in training; stored in the network by convert")
    group.add_argument("--size", type=_size, metavar="HxW", help="scale to cover this and cut (default: as they are)")
    group.add_argument("--crop", type=_size, metavar="HxW", help="then take the centre")
    group.add_argument("--channels", type=int, choices=(1, 3), help="grey or RGB (default: as the first image)")
    group.add_argument("--mean", type=_numbers, metavar="M,M,M", help="of pixels from 0 to 1, a channel")
    group.add_argument("--std", type=_numbers, metavar="S,S,S", help="of pixels from 0 to 1, a channel")
    group.add_argument("--per-image", action="store_true", default=None, help="each by its own mean and deviation")
    group.add_argument("--limit", type=positive, metavar="N", help="take at most so many, evenly from all")


def add_simulation_options(parser: argparse.ArgumentParser) -> None:
    """A network, images and how they are simulated."""
    parser.add_argument("network", type=Path, metavar="NETWORK.npz", help="a spiking network")
    parser.add_argument("--data", type=Path, required=True, metavar="IMAGES", help="a folder or an .npz of images")
    parser.add_argument("--timesteps", type=positive, metavar="T", help="default: until silent")
    parser.add_argument("--engine", default="auto", choices=("auto", "event", "dense", "reference"))
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--threads", type=positive, metavar="N", help="CPU threads (default: all)")
    add_image_options(parser)


def simulation_options(options: argparse.Namespace) -> dict[str, Any]:
    """Keyword arguments of :func:`negspike.simulate` and :func:`negspike.verify`."""
    chosen = {name: getattr(options, name) for name in ("engine", "device", "threads")}
    return chosen | ({} if options.timesteps is None else {"timesteps": options.timesteps})


def read_model(name: str, weights: Path | None) -> nn.Module:
    """A model by name, in evaluation mode, with the weights given."""
    from negspike.training.models import load_state, make_model

    model = make_model(name)
    if weights is not None:
        load_state(model, weights)
    return model.eval()


def read_prepared(
    path: Path, options: argparse.Namespace, *, split: str, network: SpikingNetwork | None = None
) -> tuple[Samples, dict[str, object]]:
    """Images as the options say or, where they say nothing, as the network's were; and how that is."""
    from negspike.data.samples import preprocessing_of, read_samples, sample_shape
    from negspike.spiking.nodes import image_shape

    stored = {} if network is None else _stored(network)
    wanted: dict[str, Any] = {}
    if options.size or options.channels or not stored:
        found: tuple[int, ...] = tuple(stored.get("image_shape", ())) or image_shape(sample_shape(path, split))
        channels, *size = found
        if network is not None:
            channels, *size = (network.input_shape[0], *size)
        shape = (options.channels or channels, *(options.size or size))
        wanted = {"image_shape": shape, "resize": bool(options.size), "crop": None}
    for key in ("crop", "mean", "std"):
        if getattr(options, key) is not None:
            wanted[key] = getattr(options, key)
    if options.per_image:
        wanted |= {"standardize": True, "mean": (), "std": ()}
    elif wanted.get("mean") or wanted.get("std"):
        wanted["standardize"] = False
    if options.per_image and (options.mean is not None or options.std is not None):
        raise InputError("--per-image takes each image's own mean and deviation; leave --mean and --std out")
    spec = _spec({**stored, **wanted})
    samples = read_samples(path, spec, split, options.limit)
    given = [name for name in PREPARATION if getattr(options, name) is not None]
    if samples.prepared and given:
        raise InputError(
            f"{path}: floats are taken as the network sees them, and --{given[0].replace('_', '-')} is of pixels; "
            "leave it out, or store the pixels as uint8"
        )
    return samples, preprocessing_of(spec)


def check_output(out: Path, *read: Path | None) -> None:
    """Refuse a file to be written that cannot be, or that the command reads, before anything is computed."""
    if out.is_dir():
        raise InputError(f"{out}: a folder; name a file in it")
    if out.exists() and any(one is not None and one.exists() and out.samefile(one) for one in read):
        raise InputError(f"{out}: what this command reads would be overwritten; name another file")


def _stored(network: SpikingNetwork) -> dict[str, Any]:
    """How a network's images are prepared: as convert wrote it, or as its data set's are."""
    from negspike.data.registry import DATASETS
    from negspike.data.samples import preprocessing_of

    found = network.origin.get("preprocessing")
    if isinstance(found, Mapping):
        return dict(found)
    spec = DATASETS.get(str(network.origin.get("dataset")))
    return {} if spec is None else preprocessing_of(spec)


def _spec(preprocessing: Mapping[str, Any]) -> DatasetSpec:
    from negspike.data.samples import spec_of

    try:
        return spec_of(preprocessing)
    except InputError as error:
        raise InputError(str(error).removeprefix("dataset ")) from None


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    try:
        size = int(height), int(width or height)
    except ValueError:
        size = (0, 0)
    if min(size) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no size, such as 224 or 24x40, height first")
    return size


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a list of numbers, such as 0.485,0.456,0.406") from None


def positive(text: str) -> int:
    """A whole number from 1, of an option."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 1")
    return int(text)
