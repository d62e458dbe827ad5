"""What a training starts from, where it does not start from scratch: phase 0."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from negspike.data.dataset import Dataset
from negspike.data.images import prepare_images
from negspike.devices import environment
from negspike.files import file_sha256
from negspike.fingerprint import code_of
from negspike.stages.run import Report, Run
from negspike.training.checkpoint import checkpoint_path, read_checkpoint, write_checkpoint
from negspike.training.models import load_state
from negspike.training.phase import PhaseResult, start_row
from negspike.training.weights import load_weights

# Training images by which steps are chosen, from all over the training set: it may be sorted by class.
CALIBRATION_IMAGES, RECONSTRUCTION_IMAGES = 512, 4096


def initialize(
    run: Run,
    data: Dataset,
    *,
    source: Path,
    reconstruction_steps: int,
    folder: Path,
    device: torch.device,
    report: Report,
) -> tuple[nn.Module, PhaseResult]:
    """The network made from ``source``: the FP32 net's last weights, or for itself a state dict from elsewhere.

    It is kept in ``folder``, as a phase is.
    """
    decisive = [dict(run.net), run.precision, run.weight_bits, run.seed, data.checksum, file_sha256(source)]
    settings = json.dumps([*decisive, reconstruction_steps, code_of(Path(__file__))])
    checkpoint, network = checkpoint_path(folder, 0), run.network()
    history, sessions = read_checkpoint(checkpoint, settings, network, None, 0, report)
    if not history:
        network = _made_from(run, data, source, reconstruction_steps, device)
        history = [start_row(network, data, device)]
        sessions = [{"first_epoch": 0, "environment": environment(device, torch.get_num_threads())}]
        write_checkpoint(checkpoint, settings, network, None, history, sessions)
    reached = history[0].test_accuracy
    report(f"{run.name}, {run.quantization}: test accuracy {reached:.2%} from {source}, before any training")
    return network, PhaseResult(history, sessions)


def full_precision(run: Run, weights: Path) -> nn.Module:
    """The FP32 net that a quantised one is made from, with its last weights."""
    network = replace(run, precision="fp32", weight_bits=None).network()
    load_weights(network, weights)
    return network


def _made_from(run: Run, data: Dataset, source: Path, reconstruction_steps: int, device: torch.device) -> nn.Module:
    if run.quantization.kind == "fp32":
        network = run.network()
        load_state(network, source)
        return network
    trained = full_precision(run, source)
    pixels = data.train.pixels
    count = min(RECONSTRUCTION_IMAGES if reconstruction_steps else CALIBRATION_IMAGES, len(pixels))
    chosen = np.linspace(0, len(pixels) - 1, count).round().astype(int)
    images = torch.from_numpy(prepare_images(data.spec, pixels[chosen]))
    return run.from_fp32(trained.to(device).eval(), images, reconstruction_steps)
