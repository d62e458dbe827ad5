"""One function a rule of the workflow: from the paths it reads to the paths it writes, without knowing Snakemake."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from negspike.config import precision_level
from negspike.datasets import dataset_spec, load_dataset, read_archives, save_dataset
from negspike.errors import InputError
from negspike.files import write_json, write_text
from negspike.network import Network
from negspike.provenance import environment
from negspike.topology import Topology, parse_topology
from negspike.training import (
    Phase,
    choose_device,
    load_weights,
    make_deterministic,
    save_weights,
    train_phase,
    write_history,
)

Report = Callable[[str], None]


def prepare_dataset(dataset: str, files: Mapping[str, Path], output: Path, report: Report) -> None:
    """Parse the archives of a dataset and write its images as one ``.npz``."""
    spec = dataset_spec(dataset)
    arrays = read_archives(spec, files)
    save_dataset(spec, arrays, output)
    report(f"{dataset}: {len(arrays['train_labels'])} training and {len(arrays['test_labels'])} test images")


def network_topology(net: Mapping[str, Any]) -> Topology:
    """The topology of a net given as :meth:`negspike.config.Definition.science` gives it."""
    return parse_topology(net["topology"], dataset_spec(net["dataset"]).input_shape, net["padding"], net["width"])


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
    # Snakemake knows nothing of the checkpoint, and so does not delete it when a job failed or is run again.
    checkpoint = output.with_name(f".{output.stem}.checkpoint")
    result = train_phase(network, dataset, phase, seed, device, checkpoint, report)
    write_history(history, result.history)
    how = {
        "net": dict(net),
        "precision": precision,
        "weight_bits": network.weight_bits,
        "phase": vars(phase),
        "seed": seed,
        "data_checksum": dataset.checksum,
        "environment": environment(device, threads),
        "wall_seconds": round(result.wall_seconds, 1),
    }
    save_weights(network, output, {"provenance": json.dumps(how)})
    checkpoint.unlink(missing_ok=True)


def summarize_training(
    net: Mapping[str, Any],
    precision: str,
    weight_bits: int | None,
    weights: Sequence[Path],
    histories: Sequence[Path],
    output: Path,
    history: Path,
) -> None:
    """Join the phases' histories and write the final model's test accuracy and provenance, ``ann.json``."""
    header, rows = "", []
    for path in histories:
        header, *lines = path.read_text(encoding="utf-8").splitlines()
        rows += lines
    write_text(history, "\n".join([header, *rows]) + "\n")
    table = list(csv.DictReader([header, *rows]))
    network = Network(network_topology(net), precision_level(precision), weight_bits)
    phases = [json.loads(load_weights(network, path)["provenance"]) for path in weights]
    if len({phase["data_checksum"] for phase in phases}) > 1:
        raise InputError(f"{weights[-1]}: its phases were trained on different data; train them again")
    last = phases[-1]
    write_json(
        output,
        {
            "test_accuracy": float(table[-1]["test_accuracy"]),
            "test_accuracy_last_ten_epochs": [float(row["test_accuracy"]) for row in table[-10:]],
            "net": last["net"],
            "precision": precision,
            "weight_bits": last["weight_bits"],
            "phases": [phase["phase"] for phase in phases],
            "seed": last["seed"],
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "neurons": network.topology.neurons,
            "reference_operations": network.topology.reference_operations,
            "data_checksum": last["data_checksum"],
            "environment": last["environment"],
            "wall_seconds": round(sum(phase["wall_seconds"] for phase in phases), 1),
        },
    )
