"""Simulating the test set, and proving that nothing was lost."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from negspike.arithmetic import keep_float32
from negspike.data.dataset import Dataset, load_dataset
from negspike.data.images import prepare_images
from negspike.data.npz import read_npz
from negspike.devices import choose_device, environment
from negspike.errors import InputError
from negspike.files import atomic_path, file_sha256, write_json
from negspike.results.energy import energy
from negspike.results.evaluation import Evaluation, describe_layers, evaluate, log_facts, save_evaluation
from negspike.results.layers import write_layers
from negspike.results.origin import check_belongs
from negspike.spiking.graph import SpikingNetwork
from negspike.spiking.joint import join_histograms
from negspike.spiking.recording import SimulationLog
from negspike.spiking.simulation import UNTIL_SILENT, choose_engine, make_engine
from negspike.stages.run import Hardware, Report, Run, Simulation
from negspike.training.network import predict
from negspike.training.weights import load_weights

# PyTorch's float32 sums may depend on which images are beside one: a shard's batches are cut where they always are.
ANN_BATCH = 100
_PER_IMAGE = ("spikes", "net_spikes", "sops")
_LOG_ARRAYS = tuple(field.name for field in fields(SimulationLog) if field.name not in ("counts", "batch_size"))
_FOUND = ("integer_predictions", "differing_neurons", "joint")


@dataclass(frozen=True)
class Inputs:
    """The files that an evaluation reads: the spiking network, the weights it was made from, the images."""

    spiking: Path
    weights: Path
    dataset: Path


@dataclass(frozen=True, eq=False)
class Part:
    """What was found for some of the test images.

    Attributes:
        evaluation: of these images.
        labels, ann_predictions: (N,) int64, the latter those of PyTorch's float32 ANN.
        facts: on what it was computed, and how long it took.
    """

    evaluation: Evaluation
    labels: np.ndarray
    ann_predictions: np.ndarray
    facts: dict[str, Any]


def evaluate_spiking(
    run: Run, simulation: Simulation, *, inputs: Inputs, directory: Path, hardware: Hardware, report: Report
) -> None:
    """Simulate the test set; write the four logs, ``evaluation.npz``, ``evaluation.json`` and the tables of layers."""
    part = _simulate(run, simulation, inputs, (1, 1), hardware=hardware, report=report)
    _write(run, simulation, [part], spiking=inputs.spiking, directory=directory, report=report)


def evaluate_shard(
    run: Run,
    simulation: Simulation,
    *,
    shard: tuple[int, int],
    inputs: Inputs,
    output: Path,
    hardware: Hardware,
    report: Report,
) -> None:
    """Simulate one part of the test set, such as (1, 8), the first of eight; :func:`gather_shards` puts them together.

    Raises:
        InputError: there are more parts than images.
    """
    part = _simulate(run, simulation, inputs, shard, hardware=hardware, report=report)
    part.evaluation.lossless_check()
    arrays = {name: getattr(part.evaluation.log, name) for name in _LOG_ARRAYS}
    arrays |= {name: getattr(part.evaluation, name) for name in _FOUND}
    arrays |= {
        "labels": part.labels,
        "ann_predictions": part.ann_predictions,
        "facts": np.array(json.dumps(part.facts)),
    }
    with atomic_path(output) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, **arrays)


def gather_shards(
    run: Run, simulation: Simulation, *, shards: Sequence[Path], spiking: Path, directory: Path, report: Report
) -> None:
    """Write what :func:`evaluate_spiking` does, the same bytes, from its parts in their order.

    Raises:
        InputError: a part is damaged, or of another network or other images.
    """
    parts = [_read_shard(path, simulation.batch_size) for path in shards]
    checksum = file_sha256(spiking)
    for path, part in zip(shards, parts, strict=True):
        same = part.facts["data_checksum"] == parts[0].facts["data_checksum"]
        if part.facts["spiking_sha256"] != checksum or not same:
            raise InputError(f"{path}: of another network or other images; delete it and run again")
    _write(run, simulation, parts, spiking=spiking, directory=directory, report=report)


def _simulate(
    run: Run, simulation: Simulation, inputs: Inputs, shard: tuple[int, int], *, hardware: Hardware, report: Report
) -> Part:
    started = time.monotonic()
    torch.set_num_threads(hardware.threads)
    keep_float32()
    device = choose_device(hardware.device)
    data = load_dataset(run.spec, inputs.dataset)
    network = _load(run, inputs, data)
    number, shards = shard
    count = len(data.test.labels)
    if shards > count:
        raise InputError(f"config key 'evaluation.shards' is {shards}: there are {count} test images, at most one each")
    first, stop = (number - 1) * count // shards, number * count // shards
    begin = first // ANN_BATCH * ANN_BATCH
    images = prepare_images(data.spec, data.test.pixels[begin : -(-stop // ANN_BATCH) * ANN_BATCH])
    labels = data.test.labels[first:stop]

    ann = run.network()
    load_weights(ann, inputs.weights)
    predicted = predict(ann.to(device), torch.from_numpy(images).to(device), batch_size=ANN_BATCH).cpu().numpy()

    evaluation = evaluate(
        network,
        images[first - begin : stop - begin],
        labels,
        timesteps=simulation.timesteps,
        runner=make_engine(network, simulation.engine, threads=hardware.threads, device=hardware.device),
        batch_size=simulation.batch_size,
        timesteps_cap=simulation.timesteps_cap,
        report=report,
    )
    facts = {
        "engine": choose_engine(network, simulation.engine, device=hardware.device),
        "data_checksum": data.checksum,
        "spiking_sha256": file_sha256(inputs.spiking),
        "environment": environment(device, hardware.threads),
        "wall_seconds": time.monotonic() - started,
    }
    return Part(evaluation, labels, predicted[first - begin : stop - begin], facts)


def _read_shard(path: Path, batch_size: int) -> Part:
    names = (*_LOG_ARRAYS, *_FOUND, "labels", "ann_predictions", "facts")
    arrays = read_npz(path, lambda promised: names, "a part of an evaluation", "delete it and run again")
    log = SimulationLog(**{name: arrays[name] for name in _LOG_ARRAYS}, counts={}, batch_size=batch_size)
    evaluation = Evaluation(log, *(arrays[name] for name in _FOUND))
    return Part(evaluation, arrays["labels"], arrays["ann_predictions"], json.loads(str(arrays["facts"])))


def _write(
    run: Run, simulation: Simulation, parts: Sequence[Part], *, spiking: Path, directory: Path, report: Report
) -> None:
    network, facts = SpikingNetwork.load(spiking), parts[0].facts
    log = SimulationLog.join([part.evaluation.log for part in parts])
    integer = np.concatenate([part.evaluation.integer_predictions for part in parts])
    differing = np.concatenate([part.evaluation.differing_neurons for part in parts])
    joint = join_histograms(part.evaluation.joint for part in parts)
    evaluation = Evaluation(log, integer, differing, joint)
    labels = np.concatenate([part.labels for part in parts])
    ann_predictions = np.concatenate([part.ann_predictions for part in parts])
    lossless = evaluation.lossless_check()
    differences = {
        "float32_ann_and_integer_ann": int((ann_predictions != integer).sum()),
        "integer_ann_and_spiking_network": int((integer != log.predictions).sum()),
        "float32_ann_and_spiking_network": int((ann_predictions != log.predictions).sum()),
    }
    log.write(directory)
    save_evaluation(evaluation, labels, ann_predictions, directory / "evaluation.npz")
    write_layers(network, log, directory)
    write_json(
        directory / "evaluation.json",
        {
            "net": run.name,
            "seed": run.seed,
            "k": run.quantization.k,
            "levels": run.quantization.levels,
            **log_facts(network, log),
            "until_silent": simulation.timesteps == UNTIL_SILENT,
            "accuracy": {
                "float32_ann": float((ann_predictions == labels).mean()),
                "integer_ann": float((integer == labels).mean()),
                "spiking_network": float((log.predictions == labels).mean()),
            },
            "lossless_check": lossless,
            "differing_predictions": differences,
            **{f"{name}_per_image": float(getattr(log, name)[:, -1].mean()) for name in _PER_IMAGE},
            "energy": energy(network, log).facts(),
            "layers": describe_layers(network, log),
            "definition": dict(run.net),
            "weight_bits": network.weight_bits,
            "engine": " and ".join(sorted({part.facts["engine"] for part in parts})),
            "data_checksum": facts["data_checksum"],
            "spiking_sha256": facts["spiking_sha256"],
            "environment": facts["environment"],
            "wall_seconds": round(sum(part.facts["wall_seconds"] for part in parts), 3),
        },
    )
    report(
        f"{run.name}, {run.quantization}: accuracy {(log.predictions == labels).mean():.2%}; "
        f"{lossless['silent_images']} of {lossless['images']} images silent, all equal to the integer ANN in every "
        "neuron; predictions that differ between PyTorch's float32 ANN and the spiking network: "
        f"{differences['float32_ann_and_spiking_network']}"
    )


def _load(run: Run, inputs: Inputs, data: Dataset) -> SpikingNetwork:
    """The spiking network, if it is the one that belongs to this run, its weights and data."""
    network = SpikingNetwork.load(inputs.spiking)
    check_belongs(network, inputs.spiking, run.quantization, data)
    if network.origin.get("weights_sha256") not in (None, file_sha256(inputs.weights)):
        raise InputError(f"{inputs.spiking}: not converted from {inputs.weights}; convert again")
    return network
