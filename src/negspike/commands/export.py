"""Write a spiking network for hardware: as JSON with test vectors, as NIR, as QONNX.

One or several of them at a time; docs/export.md says what is in each.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from negspike.commands.images import PREPARATION, add_image_options, check_output, positive, read_prepared
from negspike.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("network", type=Path, metavar="NETWORK.npz", help="a spiking network")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the network, and what it does with some images")
    parser.add_argument(
        "--nir", type=Path, metavar="FILE", help="a graph of the Neuromorphic Intermediate Representation"
    )
    parser.add_argument(
        "--qonnx", type=Path, metavar="FILE", help="its integer ANN, with thresholds and matrix products"
    )
    parser.add_argument(
        "--levels-cap", type=positive, metavar="L", help="bound counts that have no bound, in all files"
    )
    parser.add_argument(
        "--data", type=Path, metavar="IMAGES", help="a folder or an .npz (default: noise, the same always)"
    )
    parser.add_argument("--vectors", type=positive, default=3, metavar="N", help="images in the JSON (default: 3)")
    parser.add_argument("--timesteps", type=positive, metavar="T", help="of the vectors (default: until silent)")
    add_image_options(parser)


def run(options: argparse.Namespace) -> int:
    """Write the files, and say what is in them."""
    from negspike.export import capped, json, nir, qonnx
    from negspike.files import atomic_path
    from negspike.results.differences import differences
    from negspike.spiking.graph import SpikingNetwork

    if not (options.json or options.nir or options.qonnx):
        raise InputError("nothing to write: name a file with --json, --nir or --qonnx")
    given = [path for path in (options.json, options.nir, options.qonnx) if path]
    if len({path.resolve() for path in given}) < len(given):
        raise InputError("--json, --nir and --qonnx are to name different files")
    for path in given:
        check_output(path, options.network, options.data)
    if not options.data and any(getattr(options, name) is not None for name in (*PREPARATION, "limit")):
        raise InputError("options about images belong to --data, of which there is none")
    network, images = SpikingNetwork.load(options.network), None
    if options.data:
        images = read_prepared(options.data, options, split="test", network=network)[0].images
    if options.levels_cap:
        whole, network = network, capped(network, options.levels_cap)
        found = "not compared with the network as it was; --data names images for that"
        if images is not None:
            found = f"{differences(whole, network, images)} from the network as it was"
        print(f"levels cap: {found}")
    with ExitStack() as stack:  # all of the files are written, or none
        files = {path: stack.enter_context(atomic_path(path)) for path in given}
        said = []
        if options.json:
            if images is None:
                images = np.random.default_rng(0).standard_normal((options.vectors, *network.input_shape))
            count = min(options.vectors, len(images))
            chosen = images[np.arange(count) * len(images) // count]
            steps = {} if options.timesteps is None else {"timesteps": options.timesteps}
            length = json.write(network, files[options.json], images=chosen, **steps)
            said.append(f"{options.json}: the network, and {count} vectors of {length} time steps")
        if options.nir:
            nir.write(network, files[options.nir])
            said.append(f"{options.nir}: NIR, read back by negspike.export.nir.read")
        if options.qonnx:
            qonnx.write(network, files[options.qonnx])
            populations = len(network.populations)
            said.append(f"{options.qonnx}: QONNX, the activations of {populations} populations and the logits")
    print(*said, sep="\n")
    return 0
