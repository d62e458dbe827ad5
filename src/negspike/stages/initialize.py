"""Phase 0: the weights that a training starts from, where it does not start from scratch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from negspike.data.dataset import load_dataset
from negspike.data.images import prepare_images
from negspike.devices import choose_device, environment, make_deterministic
from negspike.stages.run import Hardware, Report, Run
from negspike.stages.train import provenance
from negspike.training.models import load_state
from negspike.training.phase import start_row, write_history
from negspike.training.schedule import Phase
from negspike.training.weights import load_weights, save_weights

# Training images by which steps are chosen, from all over the training set: it may be sorted by class.
CALIBRATION_IMAGES = 512


def initialize(
    run: Run, *, source: Path, dataset: Path, output: Path, history: Path, hardware: Hardware, report: Report
) -> None:
    """Write phase 0 from ``source``: the FP32 net's last weights, or for itself a state dict from elsewhere."""
    make_deterministic(hardware.threads)
    data = load_dataset(run.spec, dataset)
    if run.quantization.kind == "fp32":
        network = run.network()
        load_state(network, source)
    else:
        trained = replace(run, precision="fp32", weight_bits=None).network()
        load_weights(trained, source)
        pixels = data.train.pixels
        chosen = np.linspace(0, len(pixels) - 1, min(CALIBRATION_IMAGES, len(pixels))).round().astype(int)
        network = run.from_fp32(trained.eval(), torch.from_numpy(prepare_images(data.spec, pixels[chosen])))
    device = choose_device(hardware.device)
    reached = start_row(network, data, device)
    write_history(history, [reached])
    sessions = [{"first_epoch": 0, "environment": environment(device, hardware.threads)}]
    save_weights(network, output, provenance(run, data, Phase(0, 0, 0.0, 0), sessions))
    report(
        f"{run.name}, {run.quantization}: test accuracy {reached.test_accuracy:.2%} from {source}, before any training"
    )
