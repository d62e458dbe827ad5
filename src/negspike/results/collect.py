"""Finding and reading the logs of simulated networks: the workflow's, or somebody else's in the published format."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from negspike.errors import InputError, foreign_file
from negspike.precision import Precision
from negspike.results.folders import RUN, run_folder
from negspike.results.metrics import Curves, curves_from_logs
from negspike.spiking.logs import NAMES, read_logs

if TYPE_CHECKING:
    from negspike.config import Definition
    from negspike.results.published import Published

# float64 holds every count
_Count = Annotated[int, Field(ge=1, le=1 << 53)]
_Number = Annotated[int, Field(ge=0, le=1 << 53)]
_Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


@dataclass(frozen=True, eq=False)
class Results:
    """What the figures are drawn from.

    Attributes:
        curves: every simulated network.
        fp32: for each net, the test accuracies of its full-precision networks, one a seed; none if not known.
        published: what is drawn beside them; see :func:`negspike.results.published.beside`.
    """

    curves: Sequence[Curves]
    fp32: Mapping[str, Sequence[float]]
    published: Published | None = None


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
        folders = {run: _logs_folder(directory, *run) for run in wanted}
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
        path = run_folder(directory, net, seed, "fp32") / "ann.json"
        if path.is_file():
            fp32[net] = (*fp32.get(net, ()), read_json(path, _Ann).test_accuracy)
    return Results(curves, fp32)


def _logs_folder(directory: Path, net: str, seed: int, precision: Precision) -> Path:
    with_seed = run_folder(directory, net, seed, precision.name)
    without = directory / net / precision.name
    return without if seed == 0 and without.is_dir() and not with_seed.is_dir() else with_seed


def _find_runs(directory: Path) -> dict[tuple[str, int, Precision], Path]:
    """Every folder with at least one of the four logs, sorted by (net, seed, precision)."""
    found: dict[tuple[str, int, Precision], Path] = {}
    for path in (*directory.glob("*/*"), *directory.glob("*/seed*/*")):
        match = RUN.fullmatch(path.relative_to(directory).as_posix())
        if match and any((path / f"{name}.txt").exists() for name in NAMES):
            if not match["net"].isprintable():
                raise InputError(f"{str(path)!a}: the name of a net is text that can be printed; rename its folder")
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
    known: dict[str, Any] = {}
    if evaluation.is_file():
        facts = read_json(evaluation, _Evaluation)
        about = Precision.of(facts.k, facts.levels)
        if (facts.net, facts.seed, about) != (net, seed, precision):
            raise InputError(
                f"{evaluation}: it is about {facts.net[:80]!a}, seed {facts.seed}, {about}, but its folder is"
                f" that of {net}, seed {seed}, {precision}"
            )
        logs = read_logs(folder, facts.timesteps, facts.batch_size, signed=facts.signed)
        batch_size, images = facts.batch_size, facts.images
        neurons, operations = facts.neurons, facts.reference_operations
        known = {"ann_accuracy": facts.accuracy and facts.accuracy.integer_ann}
        known |= {"equal_images": facts.lossless_check and facts.lossless_check.equal}
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
        there = ", ".join(definitions) or "none"
        raise InputError(
            f"{folder}: no evaluation.json here, and net '{net}' has no definition (there are: {there});"
            " a file of configuration with one is given by --config"
        )
    if math.ceil(images / batch_size) != logs.batches:
        raise InputError(
            f"{folder}: the logs have {logs.batches} batches, but {images} images make"
            f" {math.ceil(images / batch_size)} batches of {batch_size}"
        )
    run = curves_from_logs(
        logs,
        net=net,
        seed=seed,
        images=images,
        neurons=neurons,
        reference_operations=operations,
        k=precision.k,
        levels=precision.levels,
    )
    return replace(run, **known)


class Accuracy(BaseModel):
    """A part of evaluation.json."""

    integer_ann: _Fraction


class LosslessCheck(BaseModel):
    """A part of evaluation.json."""

    silent_images_equal_to_integer_ann: _Number
    images_still_spiking_equal_to_integer_ann: _Number

    @property
    def equal(self) -> int:
        """Images with the integer ANN's activation in every neuron."""
        return self.silent_images_equal_to_integer_ann + self.images_still_spiking_equal_to_integer_ann


class _Evaluation(BaseModel):
    """What is needed of evaluation.json; there is more in it."""

    model_config = ConfigDict(strict=True)
    net: str
    seed: Annotated[int, Field(ge=0)]
    k: Annotated[int, Field(ge=0)] | None
    levels: _Count | None = None
    images: _Count
    timesteps: _Count
    batch_size: _Count
    neurons: _Count
    reference_operations: _Count
    signed: bool = False
    accuracy: Accuracy | None = None
    lossless_check: LosslessCheck | None = None


class _Ann(BaseModel):
    """What is needed of ann.json."""

    test_accuracy: _Fraction


Facts = TypeVar("Facts", bound=BaseModel)


def read_json(path: Path, kind: type[Facts]) -> Facts:
    """What is needed of a JSON file.

    Raises:
        InputError: it is missing or damaged, or a key is.
    """
    with foreign_file(path, "JSON", "make it again"):
        value = json.loads(path.read_bytes())  # bytes: whatever encoding it is in
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        wrong = "is missing" if first["type"] == "missing" else f"is wrong: {first['msg']}"
        raise InputError(f"{path}: {f'key {where!r} {wrong}' if where else first['msg']}") from error
