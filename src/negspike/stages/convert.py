"""From quantised weights to an integer spiking network."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from negspike.conversion.arrays import from_network
from negspike.errors import InputError
from negspike.files import file_sha256
from negspike.stages.net import network_topology
from negspike.training.network import Network
from negspike.training.weights import checkpoint_path, load_weights

Report = Callable[[str], None]


def convert(
    name: str, net: Mapping[str, Any], k: int, weight_bits: int, seed: int, weights: Path, output: Path, report: Report
) -> None:
    """Convert a quantised network's final weights into an integer spiking network."""
    network = Network(network_topology(net), k, weight_bits)
    made = json.loads(load_weights(network, weights)["provenance"])
    if (made["net"], made["precision"], made["weight_bits"]) != (dict(net), f"k{k}", weight_bits):
        raise InputError(
            f"{weights}: weights of another net: trained as {made['net']}, {made['precision']}, weight_bits "
            f"{made['weight_bits']}; expected {dict(net)}, k{k}, weight_bits {weight_bits}"
        )
    origin = {
        "net": name,
        "seed": seed,
        "dataset": net["dataset"],
        "data_checksum": made["data_checksum"],
        "weights_sha256": file_sha256(weights),
    }
    converted = from_network(network, origin)
    converted.save(output)
    checkpoint_path(weights).unlink(missing_ok=True)
    report(f"{name}, k = {k}: {len(converted.layers)} spiking layers, {converted.topology.neurons:,} neurons")
