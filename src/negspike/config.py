"""The configuration, written once: its keys, what they mean, what is right, and one line for whatever is wrong."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from math import prod
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError, create_model, model_validator
from pydantic_core import PydanticCustomError

from negspike.data.registry import DATASETS, Source, dataset_spec
from negspike.errors import InputError
from negspike.training.schedule import Phase
from negspike.training.topology import Topology, parse_topology

PRECISIONS = "fp32, k0, k1, ..."
EXPECTED_TIMESTEPS = 100
# Aliases of aliases make a few lines of YAML into billions of entries, one of itself into an endless one. No
# experiment has as many, or so deep.
LARGEST_CONFIG = 100_000
DEEPEST_CONFIG = 30
# No machine holds more weights or neurons, no experiment has more epochs, time steps or images of a batch.
LARGEST_LAYER = 10_000_000_000
LARGEST_COUNT = 1_000_000


def _once(entries: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(entries)) < len(entries):
        raise PydanticCustomError("repeated", "repeated")
    return entries


Entry = TypeVar("Entry")
_as_tuple = BeforeValidator(lambda given: tuple(given) if isinstance(given, list) else given)
ListOf = Annotated[tuple[Entry, ...], Field(min_length=1), _as_tuple]
Distinct = Annotated[ListOf[Entry], AfterValidator(_once), Field(json_schema_extra={"uniqueItems": True})]
Count = Annotated[int, Field(ge=1, le=LARGEST_COUNT)]
Folder = Annotated[str, Field(min_length=1), AfterValidator(lambda path: path.rstrip("/") or "/")]
Name = Annotated[str, Field(pattern="^[A-Za-z0-9_]+$")]
Tokens = str | Annotated[int, Field(ge=1, le=9_999_999)]
Timesteps = Count | Literal["until_silent"]
Level = Annotated[int, Field(ge=0, le=8)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]


class Section(BaseModel):
    """A mapping of known keys; 16.0, true and "16" are no integers."""

    model_config = {"strict": True, "extra": "forbid", "frozen": True, "allow_inf_nan": False}

    @model_validator(mode="before")
    @classmethod
    def _know_every_key(cls, given: Any) -> Any:
        """Before anything else: an unknown key explains the one that is missing beside it."""
        known = [field.alias or name for name, field in cls.model_fields.items()]
        for key in given if isinstance(given, dict) else ():
            if key not in known:
                raise PydanticCustomError("unknown", "unknown", {"key": key, "known": known})
        return given


class Evaluation(Section):
    """How spiking networks are simulated."""

    batch_size: Count = Field(description="images that share a run of lines in the logs; no other number depends on it")
    engine: Literal["auto", "event", "dense", "reference"] = Field(
        description="`auto` is `event` on a CPU, `dense` on a GPU; `reference` is slow, for checks; same integers"
    )
    shards: Annotated[int, Field(ge=1, le=10_000)] = Field(
        1, description="parts of the test set, a job each, on as many machines of a cluster; the numbers are the same"
    )
    timesteps_cap: Count = Field(description="with `timesteps: until_silent`, never more steps than this")


class Training(Section):
    """A phase of a training."""

    epochs: Count = Field(description="passes over the training images")
    learning_rate: float = Field(gt=0, le=1, description="Adam's, constant; a phase starts from the weights before it")


class Definition(Section):
    """A net: its topology, its dataset and how it is trained and simulated."""

    dataset: Literal[tuple(DATASETS)] = Field(description="one of the datasets")  # type: ignore[valid-type]
    tokens: Tokens = Field(alias="topology", description="the layers, see below; a number is a fully connected one")
    padding: Literal["same", "valid"] = Field(description="of convolutions and learned pooling")
    width: float = Field(gt=0, le=1_000_000, description="multiplies every number of outputs")
    timesteps: Timesteps = Field(
        description="T: how long an image is simulated; or until no neuron of any image spikes"
    )
    batch_size: Annotated[Count, Field(ge=2)] = Field(description="images a training step")
    schedule: ListOf[Training] = Field(alias="phases", description="the training, phase by phase")

    @cached_property
    def topology(self) -> Topology:
        """Parsed, with the input shape of its dataset.

        Raises:
            InputError: it is no topology, or no machine could hold it.
        """
        spec = dataset_spec(self.dataset)
        found = parse_topology(str(self.tokens), spec.input_shape, self.padding, self.width, spec.classes)
        for layer in found.layers:
            for number, what in ((prod(layer.weight_shape), "weights"), (layer.neurons, "neurons")):
                if number > LARGEST_LAYER:
                    raise InputError(
                        f"layer '{layer.token}' of topology {_short(found.text)} has {number:.1e} {what} with width"
                        f" {self.width:g}: expected at most {LARGEST_LAYER:,}"
                    )
        return found

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The training schedule."""
        numbered = enumerate(self.schedule, start=1)
        return tuple(Phase(number, each.epochs, each.learning_rate, self.batch_size) for number, each in numbered)

    @property
    def expected_timesteps(self) -> int:
        """T, or what is reckoned with before a run where images are simulated until they are silent."""
        return EXPECTED_TIMESTEPS if isinstance(self.timesteps, str) else self.timesteps

    def science(self) -> dict[str, Any]:
        """What a network is, without its schedule: small, plain and in a fixed order, as a parameter should be."""
        return {"dataset": self.dataset, "topology": str(self.tokens), "padding": self.padding, "width": self.width}


class File(Section):
    """Where a file comes from."""

    url: str = Field(pattern="^(https|http|file)://", description="where it is downloaded or copied from")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="checksum of the whole file")
    size: Annotated[int, Field(ge=1, le=10**15)] | Literal[None] = Field(None, description="bytes, if known")


def _section(name: str, fields: dict[str, Any], *, optional: bool = False) -> Any:
    """A section of the datasets, whose keys the registry knows."""
    known: Any = {key: (kind, None if optional else ...) for key, kind in fields.items()}
    return create_model(name, __base__=Section, __doc__="Where its files come from.", **known)


class Experiment(Section):
    """The whole configuration."""

    results: Folder = Field(description="folder of everything that is computed; each preset has its own")
    data: Folder = Field(description="folder of the downloaded archives and the images made of them")
    device: Literal["auto", "cpu", "cuda"] = Field(description="where it is computed; nothing is redone because of it")
    nets: Distinct[str] = Field(description="which of the definitions to run")
    k: Distinct[Level] = Field(alias="quantization_levels", description="k: activations are multiples of 2^-k")
    seeds: Distinct[Seed] = Field(description="training repetitions; every seed has its own folder")
    weight_bits: int = Field(ge=2, le=24, description="width of the integer weights, sign included")
    evaluation: Evaluation
    definitions: dict[Name, Definition] = Field(description="the nets, by name")
    datasets: _section(  # type: ignore[valid-type]
        "Datasets",
        {name: _section(name, dict.fromkeys(spec.files, File)) for name, spec in DATASETS.items()},
        optional=True,
    )

    @property
    def batch_size(self) -> int:
        """Images of a batch of an evaluation."""
        return self.evaluation.batch_size

    @property
    def engine(self) -> str:
        """What simulates."""
        return self.evaluation.engine

    @property
    def shards(self) -> int:
        """Parts of an evaluation."""
        return self.evaluation.shards

    @property
    def timesteps_cap(self) -> int:
        """The most time steps of an evaluation until silent."""
        return self.evaluation.timesteps_cap

    @property
    def sources(self) -> dict[str, dict[str, Source]]:
        """Where each file of each dataset is downloaded from."""
        return {
            dataset: {name: Source(file.url, file.sha256, file.size) for name, file in sorted(files)}
            for dataset, files in self.datasets
            if files is not None
        }


def precision_level(precision: str) -> int | None:
    """The quantisation level of a precision folder: None for ``fp32``, 1 for ``k1``.

    Raises:
        InputError: it is neither.
    """
    if precision == "fp32":
        return None
    if re.fullmatch(r"k[0-9]{1,2}", precision):
        return int(precision[1:])
    raise InputError(f"precision {precision!r} is unknown: there are {PRECISIONS}")


def resolve_config(config: Mapping[str, Any]) -> Experiment:
    """Check a merged configuration, as Snakemake has it, and type it.

    Raises:
        InputError: the first thing that is wrong: where, and what would be right.
    """
    if not isinstance(config, Mapping):
        raise InputError(f"the config is {_short(config)}: expected {_EXPECTED['dict_type']}, as in config.yaml")
    _check_form(config, {})
    try:
        experiment = Experiment.model_validate(dict(config))
    except ValidationError as error:
        raise InputError(_explain(error.errors(include_url=False), config)) from None
    for name, definition in experiment.definitions.items():
        try:
            _ = definition.topology
        except InputError as error:
            raise InputError(f"config key 'definitions.{name}': {error}") from error
    for net in experiment.nets:
        if net not in experiment.definitions:
            known = _suggest(net, experiment.definitions)
            raise InputError(f"config key 'nets': net {_short(net)} has no definition{known}")
    for name, definition in experiment.definitions.items():
        if definition.dataset not in experiment.sources:
            raise InputError(f"config key 'datasets.{definition.dataset}' is missing: net '{name}' needs it")
    return experiment


def _check_form(value: Any, known: dict[int, int], path: tuple[str | int, ...] = ()) -> int:
    """Refuse bombs, and keys that YAML does not read as text, such as 1 or no: no folder could be named after them.

    Counts entries as they would be written out, looking at each shared one once.
    """
    if len(path) > DEEPEST_CONFIG:
        raise InputError(f"the config is nested more than {DEEPEST_CONFIG} levels deep, or an alias holds itself")
    if not isinstance(value, Mapping | list | tuple):
        return 1
    if id(value) not in known:
        count = 1
        for key, entry in value.items() if isinstance(value, Mapping) else enumerate(value):
            if isinstance(value, Mapping) and not isinstance(key, str):
                name = _dotted(*path, _short(key))
                raise InputError(f"config key '{name}' is not text ({type(key).__name__}); put the name in quotes")
            count += _check_form(entry, known, (*path, key))
        if count > LARGEST_CONFIG:
            raise InputError(f"the config has more than {LARGEST_CONFIG:,} entries once its aliases are written out")
        known[id(value)] = count
    return known[id(value)]


_EXPECTED = {
    "dict_type": "a mapping of keys",
    "finite_number": "a finite number",
    "float_type": "a finite number",
    "greater_than": "more than {gt:,.16g}",
    "greater_than_equal": "at least {ge:,.16g}",
    "int_type": "a whole number",
    "less_than_equal": "at most {le:,.16g}",
    "literal_error": "{expected}",
    "model_type": "a mapping of keys",
    "repeated": "each entry once",
    "string_pattern_mismatch": "text that matches {pattern}",
    "string_too_short": "text that is not empty",
    "string_type": "text",
    "too_short": "at least {min_length} entry",
    "tuple_type": "a list, such as [a, b]",
}


def _explain(errors: Sequence[Any], config: Mapping[str, Any]) -> str:
    """One line for the first of pydantic's errors, unknown keys before all others."""
    # pydantic calls a list too short whose entries are wrong
    errors = [error for error in errors if error["type"] != "too_short" or not error["input"]]
    places = [(*_place(error["loc"], error["input"], config), error) for error in errors]
    path, value, error = min(places, key=lambda place: (place[2]["type"] != "unknown", [str(key) for key in place[0]]))
    kind, last, context = error["type"], error["loc"][-1:], error.get("ctx", {})
    where = f"config key '{_dotted(*path)}'"
    if kind == "unknown":
        return f"config key '{_dotted(*path, context['key'])}' is unknown{_suggest(context['key'], context['known'])}"
    if kind == "missing":
        # A preset that misspells a net's name begins a new definition, in which nearly everything is missing.
        nets = set(config["definitions"]) - {path[-1]} if path[:-1] == ["definitions"] else ()
        close = difflib.get_close_matches(path[-1], sorted(nets), n=1) if nets else []
        hint = f": did you mean '{close[0]}' instead of '{path[-1]}'?" if close else ""
        return f"config key '{_dotted(*path, *last)}' is missing{hint}"
    if last == ("[key]",):
        name = f"an entry {_short(error['input'])}: a name is made of letters, digits and _"
        return f"config key '{_dotted(*path[:-1])}' has {name}"
    # Where there are several kinds of values to choose from, there is an error for each of them.
    alike = [other for place, _, other in places if place == path]
    if kind == "literal_error" and len(alike) == 1:
        known = re.findall("'(.*?)'", context["expected"])
        return f"{where} is {_short(value)}{_suggest(value, known)}"
    phrases = (_EXPECTED.get(other["type"], other["msg"]).format(**other.get("ctx", {})) for other in alike)
    expected = " or ".join(phrases).replace("'", "").replace("None", "null")
    if isinstance(value, str) and re.fullmatch(r"[-+]?[0-9._]+(e[-+]?[0-9]+)?", value, re.IGNORECASE):
        how = {"int_type": "in plain digits without quotes"}
        how["float_type"] = "with a decimal point and a signed exponent, such as 1.0e-3"
        expected += f"; YAML reads {_short(value)[1:-1]} as text, write it {how[kind]}" if kind in how else ""
    return f"{where} is {_short(value)}: expected {expected}"


def _place(location: Sequence[Any], given: Any, config: Mapping[str, Any]) -> tuple[list[Any], Any]:
    """Path and value in the configuration; pydantic's location goes on to the kinds of values that it has tried."""
    path: list[Any] = []
    value: Any = config
    for part in location:
        known = value if isinstance(value, Mapping) else range(len(value)) if isinstance(value, list | tuple) else ()
        if value is given or part not in known:
            break
        path, value = [*path, part], value[part]
    return path, value


def _dotted(*path: str | int) -> str:
    """A path as it is written: definitions.cnn1.phases[0]."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
    return text if text.isprintable() and len(text) <= 200 else _short(text).strip("'")


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python writes out no integer of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _suggest(word: Any, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1) if isinstance(word, str) else []
    close = ["cuda"] if word == "gpu" and "cuda" in known else close  # which is nearer to cpu
    listing = f"there are {', '.join(known)}" if known else "no key belongs here"
    return f": did you mean '{close[0]}'? ({listing})" if close else f": {listing}"
