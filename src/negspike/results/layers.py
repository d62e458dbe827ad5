"""What every layer of a simulated network did, in integers that add up to the totals (docs/metrics.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from negspike.spiking.graph import SpikingNetwork
from negspike.spiking.nodes import Neurons, Readout, Sum
from negspike.spiking.recording import SimulationLog
from negspike.tables import write_csv

_KINDS = {Neurons: "neurons", Sum: "sum", Readout: "readout"}


def layer_rows(network: SpikingNetwork, log: SimulationLog) -> list[dict[str, Any]]:
    """A row a layer, in order: each population, sum and the readout.

    Args:
        network: that was simulated.
        log: of it.

    Returns:
        ``layer``, ``kind``; whole numbers: ``neurons``, ``macs`` an image of the ANN, ``image_macs``, those of weights
        on the image, and of all ``images`` together ``positive_spikes`` and ``negative_spikes`` that it emitted and
        ``sops``, additions into its potentials; the last three also ``_per_image``, as floats.
    """
    images, totals = len(log.predictions), {name: values.sum(1) for name, values in _by_layer(network, log).items()}
    rows = []
    for number, layer in enumerate(network.layers):
        macs, image_macs = network.macs_of(layer)
        counted = {name: int(values[number]) for name, values in totals.items()}
        rows.append(
            {
                "layer": layer.name,
                "kind": _KINDS[type(layer)],
                "neurons": layer.neurons if isinstance(layer, Neurons) else 0,
                "macs": macs,
                "image_macs": image_macs,
                "images": images,
                **counted,
                **{f"{name}_per_image": count / images for name, count in counted.items()},
            }
        )
    return rows


def step_rows(network: SpikingNetwork, log: SimulationLog) -> list[dict[str, Any]]:
    """A row a layer and time step, counted from 1: what :func:`layer_rows` counts of all images, in this step alone."""
    values = _by_layer(network, log)
    return [
        {"layer": layer.name, "step": t + 1, **{name: int(counts[number, t]) for name, counts in values.items()}}
        for number, layer in enumerate(network.layers)
        for t in range(log.timesteps)
    ]


def write_layers(network: SpikingNetwork, log: SimulationLog, directory: Path) -> None:
    """Write ``layers.csv`` and ``layer_steps.csv``."""
    write_csv(directory / "layers.csv", layer_rows(network, log))
    write_csv(directory / "layer_steps.csv", step_rows(network, log))


def _by_layer(network: SpikingNetwork, log: SimulationLog) -> dict[str, np.ndarray]:
    """(L, T) int64 by name."""
    emits = [isinstance(layer, Neurons) for layer in network.layers]
    spikes = {name: np.zeros_like(log.layer_sops) for name in ("positive_spikes", "negative_spikes")}
    spikes["positive_spikes"][emits], spikes["negative_spikes"][emits] = log.positive, log.negative
    return spikes | {"sops": log.layer_sops}
