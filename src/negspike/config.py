"""The configuration, written once: its keys, what they mean, what is right, and one line for whatever is wrong."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from math import prod
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Discriminator,
    Field,
    JsonValue,
    PrivateAttr,
    Tag,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic_core import PydanticCustomError

from negspike.data.registry import AUGMENTATIONS, DATASETS, FORMATS, DatasetSpec, Source
from negspike.errors import InputError
from negspike.precision import Precision
from negspike.training.schedule import Phase
from negspike.training.topology import Topology, parse_topology

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
        for key, entry in given.items() if isinstance(given, dict) else ():
            if key not in known and not cls._takes(key, entry):
                raise PydanticCustomError("unknown", "unknown", {"key": key, "known": known})
        return given

    @classmethod
    def _takes(cls, key: str, entry: Any) -> bool:
        """Whether an entry of another name may stand there."""
        return False


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


class Levels(Section):
    """A quantiser with a largest count, and a learned step for each layer."""

    levels: int = Field(ge=1, lt=1 << 24, description="activations are 0 to this many steps; 15 takes 4 bits")


# A tag, so that there is one error for an entry and not one for each kind.
Quantization = Annotated[
    Annotated[Level, Tag("k")] | Annotated[Levels, Tag("levels")],
    Discriminator(lambda given: "levels" if isinstance(given, dict | Levels) else "k"),
]


class Definition(Section):
    """A net: a topology or a model of one's own, its dataset and how it is trained and simulated."""

    dataset: str = Field(description="one of the datasets")
    tokens: Tokens | None = Field(
        None, alias="topology", description="the layers, see below; a number is a fully connected one"
    )
    padding: Literal["same", "valid"] | None = Field(None, description="of convolutions and learned pooling")
    width: float | None = Field(None, gt=0, le=1_000_000, description="multiplies every number of outputs")
    model: str | None = Field(
        None,
        pattern=r"^([A-Za-z_]\w*(\.[A-Za-z_]\w*)+|[^:]+\.py:[A-Za-z_]\w*)$",
        description="instead of a topology: what makes the model, `package.module.function` or `file.py:function`",
    )
    arguments: dict[str, JsonValue] = Field({}, description="of the model's function, by name")
    weights: str | None = Field(
        None, min_length=1, description="what the FP32 net starts from: a state dict in .safetensors or of torch.save"
    )
    own_quantization: Distinct[Quantization] | None = Field(
        None, alias="quantization", description="of this net, k or `levels: L`; without it, `quantization_levels`"
    )
    init: Literal["scratch", "fp32"] = Field(
        "scratch", description="what quantised trainings start from; a model's, and levels, from the FP32 net always"
    )
    timesteps: Timesteps = Field(
        description="T: how long an image is simulated; or until no neuron of any image spikes"
    )
    batch_size: Annotated[Count, Field(ge=2)] = Field(description="images a training step")
    schedule: Annotated[tuple[Training, ...], _as_tuple] = Field(
        alias="phases", description="the training, phase by phase; may be empty where there are `weights`"
    )
    finetuning: Annotated[tuple[Training, ...], _as_tuple] = Field(
        (), description="the phases of quantised trainings from the FP32 net; none: quantised without training"
    )
    _spec: DatasetSpec | None = PrivateAttr(None)
    _quantization: tuple[Precision, ...] = PrivateAttr(())

    @property
    def spec(self) -> DatasetSpec:
        """Of its dataset."""
        assert self._spec is not None, "set by resolve_config"
        return self._spec

    @property
    def quantization(self) -> tuple[Precision, ...]:
        """Its quantised versions, sorted."""
        return self._quantization

    @cached_property
    def topology(self) -> Topology:
        """Parsed, with the input shape of its dataset.

        Raises:
            InputError: it is no topology, or no machine could hold it.
        """
        assert self.padding is not None and self.width is not None, "checked by resolve_config"
        found = parse_topology(str(self.tokens), self.spec.input_shape, self.padding, self.width, self.spec.classes)
        for layer in found.layers:
            for number, what in ((prod(layer.weight_shape), "weights"), (layer.neurons, "neurons")):
                if number > LARGEST_LAYER:
                    raise InputError(
                        f"layer '{layer.token}' of topology {_short(found.text)} has {number:.1e} {what} with width"
                        f" {self.width:g}: expected at most {LARGEST_LAYER:,}"
                    )
        return found

    def from_fp32(self, precision: Precision) -> bool:
        """Whether a quantised training starts from the FP32 net's weights."""
        quantised = precision.kind != "fp32"
        return quantised and (self.init == "fp32" or self.model is not None or precision.levels is not None)

    def starts(self, precision: Precision) -> bool:
        """Whether a training starts from weights that are there: phase 0."""
        return self.from_fp32(precision) or (precision.kind == "fp32" and self.weights is not None)

    def phases(self, precision: Precision) -> tuple[Phase, ...]:
        """The training schedule."""
        numbered = enumerate(self.finetuning if self.from_fp32(precision) else self.schedule, start=1)
        return tuple(Phase(number, each.epochs, each.learning_rate, self.batch_size) for number, each in numbered)

    @property
    def expected_timesteps(self) -> int:
        """T, or what is reckoned with before a run where images are simulated until they are silent."""
        return EXPECTED_TIMESTEPS if isinstance(self.timesteps, str) else self.timesteps

    def science(self) -> dict[str, Any]:
        """What a network is, without its schedule: small, plain and in a fixed order, as a parameter should be."""
        dataset = {"dataset": dataset_science(self.spec)}
        if self.model is not None:
            return dataset | {"model": self.model, "arguments": self.arguments}
        return dataset | {"topology": str(self.tokens), "padding": self.padding, "width": self.width}


def dataset_science(spec: DatasetSpec) -> str | dict[str, Any]:
    """What a dataset is, as a parameter: the name of one that is known, or all of what one's own is."""
    return spec.name if DATASETS.get(spec.name) == spec else spec.plain()


class File(Section):
    """Where a file comes from."""

    url: str = Field(pattern="^(https|http|file)://", description="where it is downloaded or copied from")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="checksum of the whole file")
    size: Annotated[int, Field(ge=1, le=10**15)] | Literal[None] = Field(None, description="bytes; null if not known")


_FILES = sorted({file for files in FORMATS.values() for file in files})
_Size = Annotated[int, Field(ge=1, le=65_535)]


class _Pictures(Section):
    """A data set of one's own: what its files hold, and how its images are presented (docs/experiment.md)."""

    format: Literal[tuple(FORMATS)] = Field(description="what its files are")  # type: ignore[valid-type]
    image_shape: Annotated[tuple[_Size, _Size, _Size], _as_tuple] = Field(description="channels, height and width")
    classes: int = Field(ge=2, le=65_536, description="labels are 0 to one less")
    folder: str | None = Field(None, min_length=1, description="of `image_folder`, instead of an archive of it")
    resize: bool = Field(False, description="images of other sizes are scaled and cut; else they are refused")
    crop: Annotated[tuple[_Size, _Size], _as_tuple] | None = Field(
        None, description="height and width that networks see, in the centre for test images"
    )
    padding: int = Field(
        0, ge=0, le=1_000, description="zeros around training images before they are cropped at random"
    )
    pixel_levels: int = Field(255, ge=1, le=65_535, description="pixels are divided by this")
    mean: Annotated[tuple[float, ...], _as_tuple] = Field((), description="then less the mean, one number a channel")
    std: Annotated[tuple[float, ...], _as_tuple] = Field((), description="then divided by this, one number a channel")
    standardize: bool = Field(False, description="instead, each image by its own mean and standard deviation")
    augmentation: Literal[tuple(AUGMENTATIONS)] = Field(  # type: ignore[valid-type]
        "none", description="what happens to training images at random"
    )
    validation: int = Field(0, ge=0, description="training images, the last ones, that are held out")


_sources: Any = {name: (File | None, Field(None, description="where this file comes from")) for name in _FILES}
Pictures: Any = create_model("Pictures", __base__=_Pictures, __doc__=_Pictures.__doc__, **_sources)


def _own_spec(name: str, pictures: Any) -> DatasetSpec:
    """Raises InputError: its values do not go with one another, or its files are not those of its format."""
    spec = DatasetSpec(
        name=name,
        levels=pictures.pixel_levels,
        **{key: getattr(pictures, key) for key in DatasetSpec.__dataclass_fields__ if key not in ("name", "levels")},
    )
    given = {key for key in ("folder", *_FILES) if getattr(pictures, key) is not None}
    folder = spec.format == "image_folder" and given == {"folder"}
    if given != set(spec.files) and not folder:
        files = ", ".join(spec.files) or "no file"
        either = " or folder" if spec.format == "image_folder" else ""
        raise InputError(
            f"config key 'datasets.{name}' has {', '.join(sorted(given)) or 'no file'}: {spec.format} is read from"
            f" {files}{either}"
        )
    return spec


class _Datasets(Section):
    """Where the files of each dataset come from, and what those of one's own are."""

    model_config = {"extra": "allow"}
    __pydantic_extra__: dict[str, Pictures] = Field(init=False)

    @classmethod
    def _takes(cls, key: str, entry: Any) -> bool:
        return re.fullmatch("[A-Za-z0-9_]+", key) is not None and isinstance(entry, dict) and "format" in entry


def _known_files(name: str, files: Iterable[str]) -> Any:
    known: Any = dict.fromkeys(files, (File, ...))
    return create_model(name, __base__=Section, __doc__="Where its files come from.", **known)


_known: Any = {name: (_known_files(name, spec.files), None) for name, spec in DATASETS.items()}
Datasets: Any = create_model("Datasets", __base__=_Datasets, __doc__=_Datasets.__doc__, **_known)


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
    datasets: Datasets

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

    @cached_property
    def specs(self) -> dict[str, DatasetSpec]:
        """Every dataset by name.

        Raises:
            InputError: values of one of the user's do not go with one another.
        """
        return DATASETS | {name: _own_spec(name, pictures) for name, pictures in self.datasets.model_extra.items()}

    def folder(self, dataset: str) -> str | None:
        """Where the images of a dataset lie that is no archive."""
        own = self.datasets.model_extra.get(dataset)
        return own.folder if own else None

    @property
    def sources(self) -> dict[str, dict[str, Source]]:
        """Where each file of each dataset is downloaded from."""
        return {
            dataset: {
                name: Source(file.url, file.sha256, file.size) for name, file in sorted(files) if isinstance(file, File)
            }
            for dataset, files in self.datasets
            if files is not None
        }


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
            _resolve(definition, experiment)
        except InputError as error:
            raise InputError(f"config key 'definitions.{name}{error}") from error
    for net in experiment.nets:
        if net not in experiment.definitions:
            known = _suggest(net, experiment.definitions)
            raise InputError(f"config key 'nets': net {_short(net)} has no definition{known}")
    for name, definition in experiment.definitions.items():
        if definition.dataset not in experiment.sources:
            raise InputError(f"config key 'datasets.{definition.dataset}' is missing: net '{name}' needs it")
    return experiment


def _resolve(definition: Definition, experiment: Experiment) -> None:
    """Complete a definition by what stands elsewhere; an error goes on with the rest of its key's name."""
    specs = experiment.specs
    if definition.dataset not in specs:
        raise InputError(f".dataset' is {_short(definition.dataset)}{_suggest(definition.dataset, specs)}")
    definition._spec = specs[definition.dataset]
    entries = definition.own_quantization or experiment.k
    definition._quantization = tuple(
        sorted(Precision.of(None, one.levels) if isinstance(one, Levels) else Precision.of(one) for one in entries)
    )
    if not definition.schedule and definition.weights is None:
        raise InputError(".phases' is []: expected at least 1 entry, or 'weights' of a trained net")
    written = {"topology": definition.tokens, "padding": definition.padding, "width": definition.width}
    if definition.model is not None:
        if given := [key for key, value in written.items() if value is not None]:
            raise InputError(f".{given[0]}' does not go with 'model': give one of 'topology' and 'model'")
        return
    if missing := [key for key, value in written.items() if value is None]:
        raise InputError(f".{missing[0]}' is missing" + ("; or give 'model'" if missing[0] == "topology" else ""))
    if definition.arguments:
        raise InputError(".arguments' belongs to 'model', of which there is none")
    try:
        _ = definition.topology
    except InputError as error:
        raise InputError(f"': {error}") from error


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
