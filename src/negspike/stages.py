"""One function a rule of the workflow: from the paths it reads to the paths it writes, without knowing Snakemake."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from negspike.config import precision_level
from negspike.conversion import from_network
from negspike.datasets import dataset_spec, load_dataset, read_archives, save_dataset
from negspike.devices import choose_device, make_deterministic
from negspike.errors import InputError
from negspike.evaluation import check_belongs, describe_layers, evaluate, save_evaluation
from negspike.files import file_sha256, write_json, write_text
from negspike.images import prepare_images
from negspike.network import Network, predict
from negspike.provenance import environment
from negspike.schedule import Phase
from negspike.spiking.network import SpikingNetwork
from negspike.spiking.simulation import UNTIL_SILENT, choose_engine
from negspike.topology import Topology, parse_topology
from negspike.training import checkpoint_path, train_phase, write_history
from negspike.weights import load_weights, save_weights

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
    sessions = [{"phase": phase["phase"]["number"], **session} for phase in phases for session in phase["sessions"]]
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
            "environment": sessions[-1]["environment"],
            "same_environment_throughout": all(
                session["environment"] == sessions[0]["environment"] for session in sessions
            ),
            "sessions": sessions,
            "wall_seconds": round(sum(float(row["seconds"]) for row in table), 1),
        },
    )
    for path in weights:
        checkpoint_path(path).unlink(missing_ok=True)


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


def evaluate_spiking(
    name: str,
    net: Mapping[str, Any],
    k: int,
    seed: int,
    timesteps: int | str,
    batch_size: int,
    spiking: Path,
    weights: Path,
    dataset_path: Path,
    directory: Path,
    engine: str,
    device_name: str,
    threads: int,
    report: Report,
    timesteps_cap: int = 1000,
) -> None:
    """Simulate the test set; write the four logs, ``evaluation.npz`` and ``evaluation.json`` into ``directory``."""
    started = time.monotonic()
    torch.set_num_threads(threads)
    device = choose_device(device_name)
    dataset = load_dataset(net["dataset"], dataset_path)
    network = SpikingNetwork.load(spiking)
    check_belongs(network, spiking, k, dataset)
    if network.origin.get("weights_sha256") not in (None, file_sha256(weights)):
        raise InputError(f"{spiking}: not converted from {weights}; convert again")
    images, labels = prepare_images(dataset.spec, dataset.test.pixels), dataset.test.labels

    ann = Network(network_topology(net), k, network.weight_bits)
    load_weights(ann, weights)
    ann_predictions = predict(ann.to(device), torch.from_numpy(images).to(device), batch_size=100).cpu().numpy()

    evaluation = evaluate(
        *(network, images, labels, timesteps, batch_size, engine, threads, device_name, report, timesteps_cap)
    )
    log, integer = evaluation.log, evaluation.integer_predictions
    lossless = evaluation.lossless_check()
    differences = {
        "float32_ann_and_integer_ann": int((ann_predictions != integer).sum()),
        "integer_ann_and_spiking_network": int((integer != log.predictions).sum()),
        "float32_ann_and_spiking_network": int((ann_predictions != log.predictions).sum()),
    }
    log.write(directory)
    save_evaluation(evaluation, labels, ann_predictions, directory / "evaluation.npz")
    write_json(
        directory / "evaluation.json",
        {
            "net": name,
            "seed": seed,
            "k": k,
            "images": len(labels),
            "timesteps": log.correct.shape[1],
            "until_silent": timesteps == UNTIL_SILENT,
            "batch_size": batch_size,
            "neurons": network.topology.neurons,
            "reference_operations": network.topology.reference_operations,
            "accuracy": {
                "float32_ann": float((ann_predictions == labels).mean()),
                "integer_ann": float((integer == labels).mean()),
                "spiking_network": float((log.predictions == labels).mean()),
            },
            "lossless_check": lossless,
            "differing_predictions": differences,
            "spikes_per_image": float(log.spikes[:, -1].mean()),
            "net_spikes_per_image": float(log.net_spikes[:, -1].mean()),
            "sops_per_image": float(log.sops[:, -1].mean()),
            "layers": describe_layers(network, log),
            "definition": dict(net),
            "weight_bits": network.weight_bits,
            "engine": choose_engine(engine, device_name),
            "data_checksum": dataset.checksum,
            "spiking_sha256": file_sha256(spiking),
            "environment": environment(device, threads),
            "wall_seconds": round(time.monotonic() - started, 1),
        },
    )
    report(
        f"{name}, k = {k}: accuracy {(log.predictions == labels).mean():.2%}; {lossless['silent_images']} of "
        f"{lossless['images']} images silent, all equal to the integer ANN in every neuron; predictions that differ "
        f"between PyTorch's float32 ANN and the spiking network: {differences['float32_ann_and_spiking_network']}"
    )
