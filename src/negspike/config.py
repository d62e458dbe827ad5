"""The configuration: checked against its schema, with one clear line for whatever is wrong, then typed."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from negspike.data.registry import Source, dataset_spec
from negspike.errors import InputError
from negspike.training.schedule import Phase
from negspike.training.topology import Topology, parse_topology

PRECISIONS = "fp32, k0, k1, ..."

# Aliases of aliases make a few lines of YAML into billions of entries, one of itself into an endless one. No
# experiment has as many, or so deep.
LARGEST_CONFIG = 100_000
DEEPEST_CONFIG = 30

# JSON Schema takes 16.0 for an integer and knows no NaN; as a level or a number of epochs 16.0 is neither a folder's
# name nor a loop's end, and NaN passes every limit.
_Validator: Any = jsonschema.validators.extend(  # type: ignore[no-untyped-call]
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine_many(
        {
            "integer": lambda _, value: isinstance(value, int) and not isinstance(value, bool),
            "number": lambda _, value: (
                isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            ),
        }
    ),
)
_TYPES = {
    "array": "a list, such as [a, b]",
    "boolean": "true or false",
    "integer": "a whole number",
    "null": "null",
    "number": "a finite number",
    "object": "a mapping of keys",
    "string": "text",
}


EXPECTED_TIMESTEPS = 100
_PATTERNS = {r"^until_silent\Z": "expected a whole number or until_silent"}


@dataclass(frozen=True)
class Definition:
    """A net: its topology, its dataset and how it is trained and simulated.

    Attributes:
        name: its key under ``definitions``.
        dataset: name of the dataset.
        topology: parsed, with the input shape of that dataset.
        timesteps: T of the simulation, or ``"until_silent"``.
        phases: the training schedule.
    """

    name: str
    dataset: str
    topology: Topology
    timesteps: int | str
    phases: tuple[Phase, ...]

    @property
    def expected_timesteps(self) -> int:
        """T, or what is reckoned with before a run where images are simulated until they are silent."""
        return EXPECTED_TIMESTEPS if isinstance(self.timesteps, str) else self.timesteps

    def science(self) -> dict[str, Any]:
        """What a network is, without its schedule: small, plain and in a fixed order, as a parameter should be."""
        return {
            "dataset": self.dataset,
            "topology": self.topology.text,
            "padding": self.topology.padding,
            "width": float(self.topology.width),
        }


@dataclass(frozen=True)
class Experiment:
    """The whole configuration, resolved; see config.yaml for what each key means."""

    results: str
    data: str
    device: str
    nets: tuple[str, ...]
    definitions: Mapping[str, Definition]
    k: tuple[int, ...]
    seeds: tuple[int, ...]
    weight_bits: int
    batch_size: int
    engine: str
    timesteps_cap: int
    sources: Mapping[str, Mapping[str, Source]]


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


def resolve_config(config: Mapping[str, Any], schema: Path | str) -> Experiment:
    """Check a configuration and turn it into an :class:`Experiment`.

    Args:
        config: the merged mapping, as Snakemake has it.
        schema: path of the JSON schema, in YAML.

    Raises:
        InputError: the first thing that is wrong: where, and what would be right.
    """
    if not isinstance(config, Mapping):
        raise InputError(f"the config is {_short(config)}: expected {_TYPES['object']}, as in config.yaml")
    _check_size(config, {})
    _check_names(config)
    rules = yaml.safe_load(Path(schema).read_text(encoding="utf-8"))
    errors = sorted(
        _Validator(rules).iter_errors(config),
        # an unknown key explains the one that is missing beside it
        key=lambda error: (error.validator != "additionalProperties", [str(part) for part in error.path]),
    )
    if errors:
        raise InputError(_explain(errors[0], config))
    definitions = {name: _definition(name, entry) for name, entry in config["definitions"].items()}
    for name in config["nets"]:
        if name not in definitions:
            raise InputError(f"config key 'nets': net '{name}' has no definition{_suggest(name, definitions)}")
    sources = {
        dataset: {
            file: Source(entry["url"], entry["sha256"], entry.get("size")) for file, entry in sorted(files.items())
        }
        for dataset, files in config["datasets"].items()
    }
    return Experiment(
        results=config["results"].rstrip("/") or "/",
        data=config["data"].rstrip("/") or "/",
        device=config["device"],
        nets=tuple(config["nets"]),
        definitions=definitions,
        k=tuple(config["quantization_levels"]),
        seeds=tuple(config["seeds"]),
        weight_bits=config["weight_bits"],
        batch_size=config["evaluation"]["batch_size"],
        engine=config["evaluation"]["engine"],
        timesteps_cap=config["evaluation"]["timesteps_cap"],
        sources=sources,
    )


def _definition(name: str, entry: Mapping[str, Any]) -> Definition:
    try:
        topology = parse_topology(
            str(entry["topology"]),
            dataset_spec(entry["dataset"]).input_shape,
            entry["padding"],
            float(entry["width"]),
        )
    except InputError as error:
        raise InputError(f"config key 'definitions.{name}': {error}") from error
    phases = tuple(
        Phase(number, phase["epochs"], float(phase["learning_rate"]), entry["batch_size"])
        for number, phase in enumerate(entry["phases"], start=1)
    )
    return Definition(name, entry["dataset"], topology, entry["timesteps"], phases)


def _check_size(value: Any, known: dict[int, int], depth: int = 0) -> int:
    """Count entries as they would be written out, looking at each shared one once."""
    if depth > DEEPEST_CONFIG:
        raise InputError(f"the config is nested more than {DEEPEST_CONFIG} levels deep, or an alias holds itself")
    if not isinstance(value, Mapping | list | tuple):
        return 1
    if id(value) not in known:
        entries = value.values() if isinstance(value, Mapping) else value
        known[id(value)] = 1 + sum(_check_size(entry, known, depth + 1) for entry in entries)
        if known[id(value)] > LARGEST_CONFIG:
            raise InputError(f"the config has more than {LARGEST_CONFIG:,} entries once its aliases are written out")
    return known[id(value)]


def _check_names(value: Any, path: str = "") -> None:
    """Refuse keys that YAML does not read as text, such as 1 or no: no folder and no rule could be named after them."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            full = f"{path}.{key}" if path else str(key)
            if not isinstance(key, str):
                raise InputError(f"config key '{full}' is not text ({type(key).__name__}); put the name in quotes")
            _check_names(entry, full)


def _explain(error: jsonschema.ValidationError, config: Mapping[str, Any]) -> str:
    """One line for a schema violation."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path).lstrip(".")
    value: Any = error.instance
    rule: Any = error.validator_value
    if "propertyNames" in error.absolute_schema_path:
        return f"config key '{path}' has an entry {value!r}: a name is made of letters, digits and _"
    if error.validator == "additionalProperties":
        schema: Any = error.schema
        known = schema.get("properties", {})
        unknown = next(key for key in value if key not in known)
        full = f"{path}.{unknown}" if path else str(unknown)
        return f"config key '{full}' is unknown{_suggest(str(unknown), known)}"
    if error.validator == "required":
        missing = next(key for key in rule if key not in value)
        full = f"{path}.{missing}" if path else missing
        return f"config key '{full}' is missing{_other(error, config)}"
    if error.validator == "enum":
        return f"config key '{path}' is {_short(value)}{_suggest(str(value), rule)}"
    phrases: dict[str, Callable[[Any], str]] = {
        "type": lambda wanted: f"expected {_type_names(wanted)}",
        "minimum": lambda limit: f"expected at least {limit}",
        "maximum": lambda limit: f"expected at most {limit}",
        "exclusiveMinimum": lambda limit: f"expected more than {limit}",
        "minItems": lambda count: f"expected at least {count} {'entry' if count == 1 else 'entries'}",
        "minLength": lambda _: "expected text that is not empty",
        "uniqueItems": lambda _: "expected each entry once",
        "pattern": lambda pattern: _PATTERNS.get(pattern, f"expected text that matches {pattern}"),
    }
    phrase = phrases.get(str(error.validator))
    expected = phrase(rule) if phrase else " ".join(error.message.split())
    hint = ""
    if error.validator in ("type", "pattern") and isinstance(value, str) and _is_number(value):
        if error.validator == "type" and "number" in rule:
            hint = f"; YAML reads {value} as text, write it with a decimal point and a signed exponent, such as 1.0e-3"
        else:
            hint = f"; YAML reads {value} as text, write it in plain digits without quotes"
    return f"config key '{path}' is {_short(value)}: {expected}{hint}"


def _other(error: jsonschema.ValidationError, config: Mapping[str, Any]) -> str:
    """A preset that misspells a net's name begins a new definition, in which nearly everything is missing."""
    parts = list(error.absolute_path)
    if len(parts) != 2 or parts[0] != "definitions":
        return ""
    close = difflib.get_close_matches(str(parts[1]), [name for name in config["definitions"] if name != parts[1]], n=1)
    return f": did you mean '{close[0]}' instead of '{parts[1]}'?" if close else ""


def _type_names(wanted: str | list[str]) -> str:
    return " or ".join(_TYPES[name] for name in ([wanted] if isinstance(wanted, str) else wanted))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _suggest(word: str, known: Iterable[str]) -> str:
    known = [str(name) for name in known]
    close = difflib.get_close_matches(word, known, n=1)
    listing = f"there are {', '.join(known)}" if known else "no key belongs here"
    return f": did you mean '{close[0]}'? ({listing})" if close else f": {listing}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
