"""Simulating the test set, and proving that nothing was lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from negspike.data.dataset import load_dataset
from negspike.data.images import prepare_images
from negspike.devices import choose_device, environment
from negspike.errors import InputError
from negspike.files import file_sha256, write_json
from negspike.results.evaluation import check_belongs, describe_layers, evaluate, save_evaluation
from negspike.spiking.graph import SpikingNetwork
from negspike.spiking.simulation import UNTIL_SILENT, choose_engine
from negspike.stages.net import network_topology
from negspike.training.network import Network, predict
from negspike.training.weights import load_weights

Report = Callable[[str], None]


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
