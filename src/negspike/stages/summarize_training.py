"""What a finished training has reached, and how it was made."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from negspike.errors import InputError
from negspike.files import write_json, write_text
from negspike.stages.run import Run
from negspike.training.weights import checkpoint_path, load_weights


def summarize_training(
    run: Run, *, weights: Sequence[Path], histories: Sequence[Path], output: Path, history: Path
) -> None:
    """Join the phases' histories and write the final model's test accuracy and provenance, ``ann.json``."""
    header, rows = "", []
    for path in histories:
        header, *lines = path.read_text(encoding="utf-8").splitlines()
        rows += lines
    write_text(history, "\n".join([header, *rows]) + "\n")
    table = list(csv.DictReader([header, *rows]))
    network = run.network()
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
            "precision": run.precision,
            "weight_bits": last["weight_bits"],
            "phases": [phase["phase"] for phase in phases],
            "seed": last["seed"],
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
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
