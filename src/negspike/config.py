"""The configuration, written once: its keys, what they mean, what is right, and one line for whatever is wrong."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from math import prod
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, JsonValue, PrivateAttr, Tag, ValidationError
from pydantic_core import PydanticCustomError

from negspike.config_errors import EXPECTED, check_form, explain, short, suggest
from negspike.config_sections import Count, Datasets, Distinct, File, Name, Section, as_tuple, own_spec
from negspike.data.registry import AUGMENTATIONS, DATASETS, DatasetSpec, Source
from negspike.errors import InputError
from negspike.precision import Precision
from negspike.training.schedule import Phase, Recipe
from negspike.training.topology import Topology, parse_topology

EXPECTED_TIMESTEPS = 100
# No machine holds more weights or neurons.
LARGEST_LAYER = 10_000_000_000


def _folder(path: str) -> str:
    """A folder as a shell means it: ``~`` and ``$NAME`` are replaced; what Snakemake takes for its own is refused."""
    meant = os.path.expandvars(os.path.expanduser(path))  # noqa: PTH111
    if meant.startswith("~") or "$" in meant:
        raise PydanticCustomError("unknown_folder", "a folder whose ~ and $NAMES are known here")
    if set(meant) & set("{}<>") or not meant.isprintable():
        raise PydanticCustomError("wrong_folder", "a folder without braces, < and >, in characters that can be printed")
    return os.path.normpath(meant)


Folder = Annotated[str, Field(min_length=1), AfterValidator(_folder)]
Tokens = str | Annotated[int, Field(ge=1, le=9_999_999)]
Timesteps = Count | Literal["until_silent"]
Level = Annotated[int, Field(ge=0, le=8)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]


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


class Updates(Section):
    """What the phases of all trainings have."""

    epochs: Count = Field(description="passes over the training images")
    learning_rate: float = Field(gt=0, le=1, description="the largest; a phase starts from the weights before it")
    recipe: Recipe = Field(
        "published", description="Adam at a constant rate; or `fast`: Muon, one cycle, smoothed labels, bfloat16"
    )
    translation: int | None = Field(
        None, ge=0, le=1_000, description="random crops are at most so many pixels off the centre; else all there are"
    )


class Training(Updates):
    """A phase of a training."""

    initial_resolution: float = Field(
        1.0, gt=0, le=1, description="images are scaled down to this share of height and width, and grow to 1 by and by"
    )


class Finetuning(Updates):
    """A phase of a quantised training from the FP32 net."""

    distillation: float = Field(
        0.0, ge=0, le=1, description="share of the loss that is the distance from the FP32 net's distribution"
    )
    temperature: float = Field(1.0, gt=0, le=100, description="by which logits are divided for `distillation`")
    spike_penalty: float = Field(
        0.0,
        ge=0,
        le=1_000,
        description="the loss grows by this where net spikes take as many operations as the ANN has MACs",
    )


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
        None,
        min_length=1,
        description="what the FP32 net starts from: a state dict (.safetensors, torch.save) or a weights.pt",
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
    schedule: Annotated[tuple[Training, ...], as_tuple] = Field(
        alias="phases", description="the training, phase by phase; may be empty where there are `weights`"
    )
    reconstruction: int = Field(
        0,
        ge=0,
        le=100_000,
        description="updates towards the FP32 net's activations, without labels, of levels",
    )
    finetuning: Annotated[tuple[Finetuning, ...], as_tuple] = Field(
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
                        f"layer '{layer.token}' of topology {short(found.text)} has {number:.1e} {what} with width"
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
        each = self.finetuning if self.from_fp32(precision) else self.schedule
        return tuple(
            Phase(number=number, batch_size=self.batch_size, **one.model_dump()) for number, one in enumerate(each, 1)
        )

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


class Experiment(Section):
    """The whole configuration."""

    results: Folder = Field(description="folder of everything that is computed; each preset has its own")
    data: Folder = Field(description="folder of the downloaded archives and the images made of them")
    device: Literal["auto", "cpu", "cuda"] = Field(description="where it is computed; nothing is redone because of it")
    style: Literal["paper", "talk"] = Field(
        "paper", description="of the figures; `talk` is twice as large, with thicker lines; only figures are redrawn"
    )
    nets: Distinct[str] = Field(description="which of the definitions to run")
    k: Distinct[Level] = Field(alias="quantization_levels", description="k: activations are multiples of 2^-k")
    seeds: Distinct[Seed] = Field(description="training repetitions; every seed has its own folder")
    published: str | None = Field(
        None,
        min_length=1,
        description="what figures and summary are set beside: `zou2023`, or a table of curves; none if null",
    )
    weight_bits: int = Field(ge=2, le=24, description="width of the integer weights, sign included")
    threshold_bits: Annotated[int, Field(ge=2, le=64)] | Literal[None] = Field(
        None, description="width of thresholds, bases and biases; null: as wide as exactness takes"
    )
    evaluation: Evaluation
    definitions: dict[Name, Definition] = Field(description="the nets, by name")
    datasets: Datasets

    @cached_property
    def specs(self) -> dict[str, DatasetSpec]:
        """Every dataset by name.

        Raises:
            InputError: values of one of the user's do not go with one another.
        """
        return DATASETS | {name: own_spec(name, pictures) for name, pictures in self.datasets.model_extra.items()}

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
        raise InputError(f"the config is {short(config)}: expected {EXPECTED['dict_type']}, as in config.yaml")
    check_form(config, {})
    try:
        experiment = Experiment.model_validate(dict(config))
    except ValidationError as error:
        raise InputError(explain(error.errors(include_url=False), config)) from None
    _ = experiment.specs  # what is wrong with a dataset says its own key
    for name, definition in experiment.definitions.items():
        try:
            _resolve(definition, experiment)
        except InputError as error:
            raise InputError(f"config key 'definitions.{name}{error}") from error
    for net in experiment.nets:
        if net not in experiment.definitions:
            known = suggest(net, experiment.definitions)
            raise InputError(f"config key 'nets': net {short(net)} has no definition{known}")
    for name, definition in experiment.definitions.items():
        if definition.dataset not in experiment.sources:
            raise InputError(f"config key 'datasets.{definition.dataset}' is missing: net '{name}' needs it")
    return experiment


def _resolve(definition: Definition, experiment: Experiment) -> None:
    """Complete a definition by what stands elsewhere; an error goes on with the rest of its key's name."""
    specs = experiment.specs
    if definition.dataset not in specs:
        raise InputError(f".dataset' is {short(definition.dataset)}{suggest(definition.dataset, specs)}")
    definition._spec = specs[definition.dataset]
    entries = definition.own_quantization or experiment.k
    definition._quantization = tuple(
        sorted(Precision.of(None, one.levels) if isinstance(one, Levels) else Precision.of(one) for one in entries)
    )
    if not definition.schedule and definition.weights is None:
        raise InputError(".phases' is []: expected at least 1 entry, or 'weights' of a trained net")
    if not definition.schedule and not all(map(definition.from_fp32, definition.quantization)):
        raise InputError(".phases' is []: k from scratch takes at least 1 entry; or 'init: fp32'")
    for number, phase in enumerate(definition.finetuning):
        if phase.temperature != 1 and not phase.distillation:
            raise InputError(f".finetuning[{number}].temperature' belongs to 'distillation', of which there is none")
    if definition.finetuning and not any(map(definition.from_fp32, definition.quantization)):
        raise InputError(".finetuning' belongs to 'init: fp32': from scratch, k is trained by 'phases'")
    if definition.reconstruction and not any(one.levels for one in definition.quantization):
        raise InputError(
            f".reconstruction' is {definition.reconstruction}: it belongs to levels, of which there are none"
        )
    if not AUGMENTATIONS[definition.spec.augmentation].crop:
        for key, phases in (("phases", definition.schedule), ("finetuning", definition.finetuning)):
            for number, each in enumerate(phases):
                if each.translation is not None:
                    raise InputError(
                        f".{key}[{number}].translation' is {each.translation}, but dataset {definition.dataset}, with "
                        f"augmentation {definition.spec.augmentation}, does not crop at random"
                    )
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
