"""Watching single neurons while a network is shown one test image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from negspike.data.dataset import load_dataset
from negspike.data.images import prepare_images
from negspike.data.registry import dataset_spec
from negspike.precision import Precision
from negspike.results.origin import check_belongs
from negspike.results.traces import TracedImage, write_trace
from negspike.spiking.graph import SpikingNetwork
from negspike.spiking.trace import trace

# The first one: of many, nobody has chosen it.
IMAGE = 0


def trace_image(
    run: tuple[str, int, str],
    net: Mapping[str, Any],
    *,
    timesteps: int,
    spiking: Path,
    images: Path,
    output: Path,
) -> TracedImage:
    """Simulate one test image and write ``trace.npz``.

    Args:
        run: net, seed and precision.
        net: what the net is, as :meth:`negspike.config.Definition.science` gives it.
        timesteps: never more than these.
        spiking: the spiking network.
        images: the prepared dataset.
        output: the file to write.

    Raises:
        InputError: a file is damaged, or the network was trained on other images.
    """
    data = load_dataset(dataset_spec(net["dataset"]), images)
    network, precision = SpikingNetwork.load(spiking), Precision.parse(run[2])
    check_belongs(network, spiking, precision, data)
    pixels, label = data.test.pixels[IMAGE : IMAGE + 1], int(data.test.labels[IMAGE])
    found = trace(network, prepare_images(data.spec, pixels)[0], timesteps=timesteps)
    traced = TracedImage(run[0], run[1], precision, IMAGE, label, found)
    write_trace(traced, output)
    return traced
