"""Turn a PyTorch model into a spiking network.

A model without quantisers is quantised first, with the calibration images. How images are prepared is stored in the
network, so that verify and simulate prepare theirs alike.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from negspike.commands.images import add_image_options, add_model_options, check_output, read_model, read_prepared
from negspike.errors import InputError

# Images by which the conversion is checked.
CHECKED = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    add_model_options(parser, positional=True)
    parser.add_argument(
        "--calibration", type=Path, required=True, metavar="IMAGES", help="a folder or an .npz of images"
    )
    parser.add_argument("--levels", type=int, metavar="L", help="activations count from 0 to L (default: 15)")
    parser.add_argument("--percentile", type=float, metavar="P", help="what L stands for (default: the least error)")
    parser.add_argument("--weight-bits", type=int, default=24, metavar="N", help="of integer weights (default: 24)")
    parser.add_argument(
        "--threshold-bits", type=int, metavar="N", help="of thresholds and bases (default: as wide as it takes)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="NETWORK.npz", help="where the network goes")
    add_image_options(parser)


def run(options: argparse.Namespace) -> int:
    """Write the network and print what it is."""
    from negspike.conversion.calibrate import quantize
    from negspike.conversion.convert import convert, is_quantised
    from negspike.conversion.narrow import narrow_thresholds
    from negspike.results.differences import differences
    from negspike.results.verification import in_float64

    check_output(options.out, Path(options.model.rpartition(":")[0]), options.weights, options.calibration)
    model = read_model(options.model, options.weights)
    samples, preprocessing = read_prepared(options.calibration, options, split="train")
    if is_quantised(model, samples.images[:1]):
        for name in ("levels", "percentile"):
            if (given := getattr(options, name)) is not None:
                raise InputError(f"--{name} {given:g}: {options.model} has quantisers of its own")
    else:
        levels = 15 if options.levels is None else options.levels
        model = quantize(model, samples.images, levels=levels, percentile=options.percentile)
    network = convert(model, samples.images[:1], weight_bits=options.weight_bits)
    exact = in_float64(network, samples.images[:CHECKED], model)
    neurons = f"{exact.equal:,} of {exact.neurons:,} activations of the quantised model"
    print(f"equal to the network: {neurons}, {min(CHECKED, len(samples.images))} images in float64")
    if options.threshold_bits is not None:
        whole, network = network, narrow_thresholds(network, options.threshold_bits)
        compared = differences(whole, network, samples.images)
        print(f"thresholds and bases of {network.threshold_bits} bits instead of {whole.threshold_bits}: {compared}")
    network = replace(network, origin={**network.origin, "preprocessing": preprocessing})
    network.save(options.out)
    print(network)
    print(f"{options.out}: written; calibrated with {len(samples.images)} images")
    return 0
