"""From quantised weights to an integer spiking network."""

from __future__ import annotations

import json
from pathlib import Path

from negspike.conversion.arrays import from_network
from negspike.errors import InputError
from negspike.files import file_sha256
from negspike.stages.run import Report, Run
from negspike.training.weights import checkpoint_path, load_weights


def convert(run: Run, *, weights: Path, output: Path, report: Report) -> None:
    """Convert a quantised network's final weights into an integer spiking network."""
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
        "dataset": run.net["dataset"],
        "data_checksum": made["data_checksum"],
        "weights_sha256": file_sha256(weights),
    }
    converted = from_network(network, origin)
    converted.save(output)
    checkpoint_path(weights).unlink(missing_ok=True)
    report(f"{run.name}, {run.precision}: {len(converted.populations)} spiking layers, {converted.neurons:,} neurons")
