"""A network and test vectors as JSON, all that a testbench needs (docs/export.md)."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from negspike.files import write_text
from negspike.spiking import storage
from negspike.spiking.dense import DenseEngine
from negspike.spiking.graph import SpikingNetwork
from negspike.spiking.simulation import UNTIL_SILENT, check_run, most_timesteps

FORMAT = "negspike network and test vectors, 1"


def write(network: SpikingNetwork, path: Path | str, *, images: np.ndarray, timesteps: int | str = UNTIL_SILENT) -> int:
    """Write the network and what it does with some images; atomic.

    Args:
        network: the network.
        path: of the JSON file.
        images: (N, C, H, W) standardised floats; rounded to 16 fractional bits.
        timesteps: T, or ``"until_silent"``: up to the first step without a spike, that step included.

    Returns:
        T, the time steps of each vector.

    Raises:
        InputError: images or time steps do not fit the network.
    """
    made = vectors(network, images, timesteps=timesteps)
    content = {"format": FORMAT} | description(network) | {"vectors": made}
    write_text(path, json.dumps(content, separators=(",", ":"), allow_nan=False) + "\n")
    return len(made[0]["spikes"])


def description(network: SpikingNetwork) -> dict[str, Any]:
    """The header of docs/format.md, with each array where it belongs: lists of integers, weights in base64."""
    header, arrays = storage.describe(network)
    del header["format"]
    nodes = {entry["name"]: entry for entry in header["nodes"]}
    for key, array in arrays.items():
        owner, *number, name = key.split("/")
        place = nodes[owner]["synapses"][int(number[0])] if number else nodes[owner]
        place[name] = _encoded(array) if name == "weight" else array.tolist()
    return header


def _encoded(array: np.ndarray) -> dict[str, Any]:
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    content = base64.b64encode(little.tobytes()).decode()
    return {"dtype": array.dtype.name, "shape": array.shape, "base64": content}


def vectors(
    network: SpikingNetwork, images: np.ndarray, *, timesteps: int | str = UNTIL_SILENT
) -> list[dict[str, Any]]:
    """For each image its integers, the spikes of every step, and how the network ends.

    Args:
        network, images, timesteps: as in :func:`write`.

    Returns:
        For each image ``input`` (channels, height, width), ``spikes``: for each step and population the places of the
        spikes ``+1`` and ``-1`` in C order, ``counts`` by population, in C order, ``logits``, ``prediction`` and
        ``silent``, whether the last step was without a spike.

    Raises:
        InputError: as :func:`write`.
    """
    most = most_timesteps(network, timesteps)
    check_run(network, images, most)
    encoded = network.encode(images)
    engine = DenseEngine(network, torch.device("cpu"), None)
    states, counts = engine.start(len(encoded)), dict[str, np.ndarray]()
    spikes: list[list[dict[str, Any]]] = [[] for _ in encoded]
    for step in range(most):
        recording = engine.advance(states, encoded if step == 0 else np.zeros_like(encoded), 1)
        found = {name: values.reshape(len(encoded), -1) for name, values in recording.counts.items()}
        emitted = {name: values - counts.get(name, 0) for name, values in found.items()}
        counts = {name: values.copy() for name, values in found.items()}
        for number, one in enumerate(spikes):
            signs = {name: values[number] for name, values in emitted.items()}
            one.append(
                {name: {f"{s:+d}": np.flatnonzero(at == s).tolist() for s in (1, -1)} for name, at in signs.items()}
            )
        if timesteps == UNTIL_SILENT and not recording.still_spiking:
            break
    return [
        {
            "input": encoded[number].tolist(),
            "spikes": one,
            "counts": {name: values[number].tolist() for name, values in counts.items()},
            "logits": recording.logits[number].tolist(),
            "prediction": int(recording.predictions[number, -1]),
            "silent": not any(places for population in one[-1].values() for places in population.values()),
        }
        for number, one in enumerate(spikes)
    ]
