"""Training one phase of one network."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from negspike.config import precision_level
from negspike.data.dataset import load_dataset
from negspike.devices import choose_device, make_deterministic
from negspike.stages.net import network_topology
from negspike.training.network import Network
from negspike.training.phase import train_phase, write_history
from negspike.training.schedule import Phase
from negspike.training.weights import checkpoint_path, load_weights, save_weights

Report = Callable[[str], None]


def train(
    net: Mapping[str, Any],
    precision: str,
    weight_bits: int | None,
    phase: Phase,
    seed: int,
    dataset_path: Path,
    previous: Path | None,
    output: Path,
    history: Path,
    device_name: str,
    threads: int,
    report: Report,
) -> None:
    """Train one phase, from the weights of ``previous`` or from the start, and write weights and history."""
    make_deterministic(threads)
    device = choose_device(device_name)
    dataset = load_dataset(net["dataset"], dataset_path)
    network = Network(network_topology(net), precision_level(precision), weight_bits, seed)
    if previous is not None:
        load_weights(network, previous)
        checkpoint_path(previous).unlink(missing_ok=True)
    result = train_phase(network, dataset, phase, seed, device, checkpoint_path(output), report)
    write_history(history, result.history)
    how = {
        "net": dict(net),
        "precision": precision,
        "weight_bits": network.weight_bits,
        "phase": vars(phase),
        "seed": seed,
        "data_checksum": dataset.checksum,
        "sessions": result.sessions,
    }
    save_weights(network, output, {"provenance": json.dumps(how)})
