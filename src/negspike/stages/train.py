"""One training: what it starts from, its phases, and what it has reached."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from negspike.arithmetic import prepare_training
from negspike.data.dataset import load_dataset
from negspike.devices import choose_device
from negspike.files import write_json
from negspike.stages.initialize import full_precision, initialize
from negspike.stages.run import Hardware, Report, Run
from negspike.training.checkpoint import checkpoint_path
from negspike.training.history import write_history
from negspike.training.phase import PhaseResult, train_phase
from negspike.training.schedule import Phase
from negspike.training.weights import save_weights


def train(
    run: Run,
    phases: Sequence[Phase],
    *,
    source: Path | None,
    reconstruction_steps: int = 0,
    dataset: Path,
    folder: Path,
    hardware: Hardware,
    report: Report,
) -> None:
    """Train a network, and write ``weights.pt``, ``history.csv`` and ``ann.json``, what it has reached and how.

    A checkpoint of each phase stays beside them: a training that was interrupted goes on from there, and one whose
    later phases have changed trains only those.

    Args:
        run: the network.
        phases: one after another, each from the weights that the one before has reached.
        source: weights to start from; None starts from scratch.
        reconstruction_steps: of :func:`negspike.quantize`, with levels and a source.
        dataset: prepared images.
        folder: where the results go.
        hardware: what to compute on.
        report: takes progress lines.

    Raises:
        InputError: weights, data or device do not fit the network, or a training diverges.
    """
    prepare_training(hardware.threads)
    device, data = choose_device(hardware.device), load_dataset(run.spec, dataset)
    done, schedule, teacher = list[PhaseResult](), list(phases), None
    if source is None:
        network = run.network()
    else:
        network, result = initialize(
            run,
            data,
            source=source,
            reconstruction_steps=reconstruction_steps,
            folder=folder,
            device=device,
            report=report,
        )
        done, schedule = [result], [Phase(0, 0, 0.0, 0), *phases]
    about = json.dumps([dict(run.net), run.precision, run.weight_bits])
    network = network.to(device)
    if source is not None and any(phase.distillation for phase in phases):
        teacher = full_precision(run, source).to(device)
    for phase in phases:
        checkpoint = checkpoint_path(folder, phase.number)
        done.append(train_phase(network, data, phase, run.seed, checkpoint, report, about, teacher))
    history = [row for result in done for row in result.history]
    sessions = [
        {"phase": phase.number, **session}
        for phase, result in zip(schedule, done, strict=True)
        for session in result.sessions
    ]
    made = {
        "net": dict(run.net),
        "precision": run.precision,
        "weight_bits": run.weight_bits,
        "phases": [phase.plain() for phase in schedule],
        "seed": run.seed,
        "data_checksum": data.checksum,
        "sessions": sessions,
    }
    reached = {
        "test_accuracy": history[-1].test_accuracy,
        "test_accuracy_last_ten_epochs": [row.test_accuracy for row in history[-10:]],
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "environment": sessions[-1]["environment"],
        "same_environment_throughout": all(one["environment"] == sessions[0]["environment"] for one in sessions),
        "wall_seconds": round(sum(row.seconds for row in history), 1),
    }
    write_history(folder / "history.csv", history)
    write_json(folder / "ann.json", reached | made)
    save_weights(network, folder / "weights.pt", {"provenance": json.dumps(made)})
