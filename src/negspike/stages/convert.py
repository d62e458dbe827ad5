"""From quantised weights to an integer spiking network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from negspike.conversion.arrays import from_network
from negspike.conversion.convert import convert as convert_model
from negspike.conversion.narrow import narrow_thresholds
from negspike.errors import InputError
from negspike.files import file_sha256
from negspike.spiking.graph import SpikingNetwork
from negspike.stages.run import Report, Run
from negspike.training.network import Network
from negspike.training.weights import load_weights


def convert(run: Run, *, weights: Path, output: Path, report: Report, threshold_bits: int | None = None) -> None:
    """Convert a quantised network's final weights into an integer spiking network, of narrow thresholds on request."""
    network = run.network()
    made = json.loads(load_weights(network, weights)["provenance"])
    if (made["net"], made["precision"], made["weight_bits"]) != (dict(run.net), run.precision, run.weight_bits):
        raise InputError(
            f"{weights}: weights of another net: trained as {made['net']}, {made['precision']}, weight_bits "
            f"{made['weight_bits']}; expected {dict(run.net)}, {run.precision}, weight_bits {run.weight_bits}"
        )
    origin = {
        "net": run.name,
        "seed": run.seed,
        "precision": run.precision,
        "dataset": run.spec.name,
        "data_checksum": made["data_checksum"],
        "weights_sha256": file_sha256(weights),
    }
    made_of = spiking_network(run, network)
    if threshold_bits is not None:
        made_of = narrow_thresholds(made_of, threshold_bits)
    converted = replace(made_of, origin=dict(made_of.origin) | origin)
    converted.save(output)
    report(
        f"{run.name}, {run.quantization}: {len(converted.populations)} spiking layers, {converted.neurons:,} neurons"
    )


def spiking_network(run: Run, network: nn.Module) -> SpikingNetwork:
    """Convert a quantised network of this run."""
    if isinstance(network, Network) and network.k is not None:
        return from_network(network, {})
    assert run.weight_bits is not None, "quantised"
    return convert_model(network.eval(), torch.zeros(1, *run.spec.input_shape), weight_bits=run.weight_bits)
