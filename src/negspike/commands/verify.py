"""Prove neuron by neuron that a spiking network loses nothing.

Every neuron's net spike count is compared with the integer quantised network's activation, for every image. The exit
code is 1 if an image has not fallen silent or a neuron differs.
"""

from __future__ import annotations

import argparse

from negspike.commands.images import (
    add_model_options,
    add_simulation_options,
    read_model,
    read_prepared,
    simulation_options,
)
from negspike.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    add_simulation_options(parser)
    add_model_options(parser, positional=False)


def run(options: argparse.Namespace) -> int:
    """Print what was found."""
    from negspike.conversion.convert import is_quantised
    from negspike.results.verification import verify
    from negspike.spiking.graph import SpikingNetwork

    network = SpikingNetwork.load(options.network)
    samples, _ = read_prepared(options.data, options, split="test", network=network)
    if options.weights and not options.model:
        raise InputError("--weights needs --model, whose weights they are")
    model = read_model(options.model, options.weights) if options.model else None
    quantised = model is not None and is_quantised(model, samples.images[:1])
    both = (model, None) if quantised else (None, model)
    found = verify(network, samples.images, both[0], float_model=both[1], **simulation_options(options))
    print(found)
    return 0 if found.lossless else 1
