"""Simulating the test set, and proving that nothing was lost."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from negspike.data.dataset import Dataset, load_dataset
from negspike.data.images import prepare_images
from negspike.devices import choose_device, environment
from negspike.errors import InputError
from negspike.files import file_sha256, write_json
from negspike.results.evaluation import check_belongs, describe_layers, evaluate, save_evaluation
from negspike.spiking.graph import SpikingNetwork
from negspike.spiking.simulation import UNTIL_SILENT, choose_engine, make_engine
from negspike.stages.run import Hardware, Report, Run, Simulation
from negspike.training.network import predict
from negspike.training.weights import load_weights


def evaluate_spiking(
    run: Run,
    simulation: Simulation,
    *,
    spiking: Path,
    weights: Path,
    dataset: Path,
    directory: Path,
    hardware: Hardware,
    report: Report,
) -> None:
    """Simulate the test set; write the four logs, ``evaluation.npz`` and ``evaluation.json`` into ``directory``."""
    started = time.monotonic()
    torch.set_num_threads(hardware.threads)
    device = choose_device(hardware.device)
    data = load_dataset(run.spec, dataset)
    network = _load(run, spiking, weights, data)
    images, labels = prepare_images(data.spec, data.test.pixels), data.test.labels

    ann = run.network()
    load_weights(ann, weights)
    ann_predictions = predict(ann.to(device), torch.from_numpy(images).to(device), batch_size=100).cpu().numpy()

    evaluation = evaluate(
        network,
        images,
        labels,
        timesteps=simulation.timesteps,
        runner=make_engine(network, simulation.engine, threads=hardware.threads, device=hardware.device),
        batch_size=simulation.batch_size,
        timesteps_cap=simulation.timesteps_cap,
        report=report,
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
            "net": run.name,
            "seed": run.seed,
            "k": run.quantization.k,
            "levels": run.quantization.levels,
            "images": len(labels),
            "timesteps": log.timesteps,
            "until_silent": simulation.timesteps == UNTIL_SILENT,
            "latency_bound": network.latency_bound,
            "signed": network.signed,
            "batch_size": simulation.batch_size,
            "neurons": network.neurons,
            "reference_operations": network.reference_operations,
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
            "definition": dict(run.net),
            "weight_bits": network.weight_bits,
            "engine": choose_engine(network, simulation.engine, device=hardware.device),
            "data_checksum": data.checksum,
            "spiking_sha256": file_sha256(spiking),
            "environment": environment(device, hardware.threads),
            "wall_seconds": round(time.monotonic() - started, 1),
        },
    )
    report(
        f"{run.name}, {run.quantization}: accuracy {(log.predictions == labels).mean():.2%}; "
        f"{lossless['silent_images']} of {lossless['images']} images silent, all equal to the integer ANN in every "
        "neuron; predictions that differ between PyTorch's float32 ANN and the spiking network: "
        f"{differences['float32_ann_and_spiking_network']}"
    )


def _load(run: Run, spiking: Path, weights: Path, data: Dataset) -> SpikingNetwork:
    """The spiking network, if it is the one that belongs to this run, its weights and data."""
    network = SpikingNetwork.load(spiking)
    check_belongs(network, spiking, run.quantization, data)
    if network.origin.get("weights_sha256") not in (None, file_sha256(weights)):
        raise InputError(f"{spiking}: not converted from {weights}; convert again")
    return network
