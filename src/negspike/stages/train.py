"""Training one phase of one network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from negspike.data.dataset import Dataset, load_dataset
from negspike.devices import choose_device, make_deterministic
from negspike.stages.run import Hardware, Report, Run
from negspike.training.phase import train_phase, write_history
from negspike.training.schedule import Phase
from negspike.training.weights import checkpoint_path, load_weights, save_weights


def train(
    run: Run,
    phase: Phase,
    *,
    dataset: Path,
    previous: Path | None,
    output: Path,
    history: Path,
    hardware: Hardware,
    report: Report,
) -> None:
    """Train one phase, from the weights of ``previous`` or from the start, and write weights and history."""
    make_deterministic(hardware.threads)
    device = choose_device(hardware.device)
    data = load_dataset(run.spec, dataset)
    network = run.network()
    if previous is not None:
        load_weights(network, previous)
        checkpoint_path(previous).unlink(missing_ok=True)
    about = json.dumps([dict(run.net), run.precision, run.weight_bits])
    result = train_phase(network, data, phase, run.seed, device, checkpoint_path(output), report, about)
    write_history(history, result.history)
    save_weights(network, output, provenance(run, data, phase, result.sessions))


def provenance(run: Run, data: Dataset, phase: Phase, sessions: list[dict[str, Any]]) -> dict[str, str]:
    """How weights were made, as they keep it."""
    how = {
        "net": dict(run.net),
        "precision": run.precision,
        "weight_bits": run.weight_bits,
        "phase": vars(phase),
        "seed": run.seed,
        "data_checksum": data.checksum,
        "sessions": sessions,
    }
    return {"provenance": json.dumps(how)}
