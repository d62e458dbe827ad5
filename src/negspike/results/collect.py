"""Finding and reading the logs of simulated networks: the workflow's, or somebody else's in the published format."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negspike.errors import InputError
from negspike.precision import Precision
from negspike.results.metrics import Curves, curves_from_logs
from negspike.spiking.logs import NAMES, read_logs

if TYPE_CHECKING:
    from negspike.config import Definition


@dataclass(frozen=True)
class Results:
    """What the figures are drawn from.

    Attributes:
        curves: every simulated network.
        fp32: for each net, the test accuracies of its full-precision networks, one a seed; none if not known.
    """

    curves: tuple[Curves, ...]
    fp32: Mapping[str, tuple[float, ...]]


def collect(
    directory: Path | str,
    runs: Iterable[tuple[str, int, str]] | None = None,
    *,
    definitions: Mapping[str, Definition] | None = None,
    batch_size: int = 50,
    images: int | None = None,
) -> Results:
    """Read the logs below a folder: those of the workflow, or those somebody else wrote in the published format.

    A simulation is a folder ``{net}/seed{seed}/k{k}`` or, as one repetition, ``{net}/k{k}`` (seed 0); for other
    quantisers ``levels{L}`` stands in the place of ``k{k}``. The workflow's have an ``evaluation.json`` beside the four
    logs, which says what the network was; for others the net's name must be one of ``definitions``. The accuracy of the
    full-precision net is taken from ``{net}/seed{seed}/fp32/ann.json`` where that exists.

    Args:
        directory: the folder of the nets' folders.
        runs: (net, seed, folder) of the simulations wanted, such as ``("cnn1", 0, "k1")``, in the order of the figures;
            all there are if None.
        definitions: the nets of the configuration, for logs without ``evaluation.json``.
        batch_size: images of a batch, for logs without ``evaluation.json``.
        images: how many images these logs are about; batches times ``batch_size`` if None.

    Raises:
        InputError: no log is found, a log is wrong, or it is not known what network it is about.
    """
    directory = Path(directory)
    if runs is None:
        folders = _find_runs(directory)
    else:
        wanted = [(net, seed, Precision.parse(name)) for net, seed, name in runs]
        folders = {run: _run_folder(directory, *run) for run in wanted}
    if not folders:
        raise InputError(f"{directory}: no logs here; they are looked for in <net>/k<k>/ and <net>/seed<seed>/k<k>/")
    curves = tuple(
        _read_run(folder, net, seed, precision, definitions or {}, batch_size, images)
        for (net, seed, precision), folder in folders.items()
    )
    longest = {run.net: max(other.timesteps for other in curves if other.net == run.net) for run in curves}
    # Simulated until silent, each for as long as it took.
    curves = tuple(run if run.still_spiking else run.continued(longest[run.net]) for run in curves)
    fp32: dict[str, tuple[float, ...]] = {}
    for net, seed in dict.fromkeys((net, seed) for net, seed, _ in folders):
        path = directory / net / f"seed{seed}" / "fp32" / "ann.json"
        if path.is_file():
            fp32[net] = (*fp32.get(net, ()), float(_read_json(path, "test_accuracy")["test_accuracy"]))
    return Results(curves, fp32)


def _run_folder(directory: Path, net: str, seed: int, precision: Precision) -> Path:
    with_seed = directory / net / f"seed{seed}" / precision.name
    without = directory / net / precision.name
    return without if seed == 0 and without.is_dir() and not with_seed.is_dir() else with_seed


def _find_runs(directory: Path) -> dict[tuple[str, int, Precision], Path]:
    """Every folder with at least one of the four logs, sorted by (net, seed, precision)."""
    found: dict[tuple[str, int, Precision], Path] = {}
    for path in (*directory.glob("*/*"), *directory.glob("*/seed*/*")):
        match = re.fullmatch(
            r"(?P<net>[^/]+)/(seed(?P<seed>\d+)/)?(?P<name>k\d{1,2}|levels\d{1,8})",
            path.relative_to(directory).as_posix(),
        )
        if match and any((path / f"{name}.txt").exists() for name in NAMES):
            run = (match["net"], int(match["seed"] or 0), Precision.parse(match["name"]))
            if run in found:
                raise InputError(f"{path} and {found[run]} are both seed {run[1]}, {run[2]} of {run[0]}")
            found[run] = path
    return dict(sorted(found.items()))


def _read_run(
    folder: Path,
    net: str,
    seed: int,
    precision: Precision,
    definitions: Mapping[str, Definition],
    batch_size: int,
    images: int | None,
) -> Curves:
    evaluation = folder / "evaluation.json"
    if evaluation.is_file():
        integers = ("seed", "k", "images", "timesteps", "batch_size", "neurons", "reference_operations")
        facts = _read_json(evaluation, "net", *integers)
        about = Precision.of(facts["k"], facts.get("levels"))
        if (facts["net"], facts["seed"], about) != (net, seed, precision):
            raise InputError(
                f"{evaluation}: it is about {facts['net']}, seed {facts['seed']}, {about}, but its folder is"
                f" that of {net}, seed {seed}, {precision}"
            )
        logs = read_logs(folder, facts["timesteps"], facts["batch_size"], signed=facts.get("signed") is True)
        batch_size, images = facts["batch_size"], facts["images"]
        neurons, operations = facts["neurons"], facts["reference_operations"]
    elif net in definitions:
        timesteps = definitions[net].timesteps
        if isinstance(timesteps, str):
            raise InputError(
                f"{folder}: no evaluation.json here, and net '{net}' is simulated {timesteps}: how many steps do these"
                " logs have? Give its definition that number"
            )
        logs = read_logs(folder, timesteps, batch_size)
        if definitions[net].model is not None:
            raise InputError(f"{folder}: no evaluation.json here, which says how many neurons model '{net}' has")
        topology = definitions[net].topology
        neurons, operations = topology.neurons, topology.reference_operations
        images = logs.batches * batch_size if images is None else images
    else:
        known = ", ".join(definitions) or "none"
        raise InputError(f"{folder}: no evaluation.json here, and net '{net}' has no definition (there are: {known})")
    if math.ceil(images / batch_size) != logs.batches:
        raise InputError(
            f"{folder}: the logs have {logs.batches} batches, but {images} images make"
            f" {math.ceil(images / batch_size)} batches of {batch_size}"
        )
    return curves_from_logs(
        logs,
        net=net,
        seed=seed,
        images=images,
        neurons=neurons,
        reference_operations=operations,
        k=precision.k,
        levels=precision.levels,
    )


def _read_json(path: Path, *keys: str) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not JSON: {error}") from None
    missing = [key for key in keys if not isinstance(value, dict) or key not in value]
    if missing:
        raise InputError(f"{path}: key '{missing[0]}' is missing")
    return dict(value)
