"""What is wrong with a configuration, in one line that names the key and says what would be right."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from negspike.errors import InputError

# Aliases of aliases make a few lines of YAML into billions of entries, one of itself into an endless one. No
# experiment has as many, or so deep.
LARGEST_CONFIG = 100_000
DEEPEST_CONFIG = 30


def check_form(value: Any, known: dict[int, int], path: tuple[str | int, ...] = ()) -> int:
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
                name = _dotted(*path, short(key))
                raise InputError(f"config key '{name}' is not text ({type(key).__name__}); put the name in quotes")
            if isinstance(key, str) and re.search("[\ud800-\udfff]", key):
                raise InputError(f"config key {short(key)} is no text: half of a character")
            count += check_form(entry, known, (*path, key))
        if count > LARGEST_CONFIG:
            raise InputError(f"the config has more than {LARGEST_CONFIG:,} entries once its aliases are written out")
        known[id(value)] = count
    return known[id(value)]


EXPECTED = {
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


def explain(errors: Sequence[Any], config: Mapping[str, Any]) -> str:
    """One line for the first of pydantic's errors, unknown keys before all others."""
    # pydantic calls a list too short whose entries are wrong
    errors = [error for error in errors if error["type"] != "too_short" or not error["input"]]
    places = [(*_place(error["loc"], error["input"], config), error) for error in errors]
    path, value, error = min(places, key=lambda place: (place[2]["type"] != "unknown", [str(key) for key in place[0]]))
    kind, last, context = error["type"], error["loc"][-1:], error.get("ctx", {})
    where = f"config key '{_dotted(*path)}'"
    if kind == "unknown":
        return f"config key '{_dotted(*path, context['key'])}' is unknown{suggest(context['key'], context['known'])}"
    if kind == "missing":
        # A preset that misspells a net's name begins a new definition, in which nearly everything is missing.
        # One that says what the net is, is meant.
        begins = path[:-1] == ["definitions"] and not {"topology", "model"} & set(config["definitions"][path[-1]])
        nets = set(config["definitions"]) - {path[-1]} if begins else ()
        close = difflib.get_close_matches(path[-1], sorted(nets), n=1) if nets else []
        hint = f": did you mean '{close[0]}' instead of '{path[-1]}'?" if close else ""
        return f"config key '{_dotted(*path, *last)}' is missing{hint}"
    if last == ("[key]",):
        name = f"an entry {short(error['input'])}: a name is made of letters, digits and _"
        return f"config key '{_dotted(*path[:-1])}' has {name}"
    # Where there are several kinds of values to choose from, there is an error for each of them.
    alike = [other for place, _, other in places if place == path]
    if kind == "literal_error" and len(alike) == 1:
        known = re.findall("'(.*?)'", context["expected"])
        return f"{where} is {short(value)}{suggest(value, known)}"
    phrases = (EXPECTED.get(other["type"], other["msg"]).format(**other.get("ctx", {})) for other in alike)
    expected = " or ".join(phrases).replace("'", "").replace("None", "null")
    if isinstance(value, str) and re.fullmatch(r"[-+]?[0-9._]+(e[-+]?[0-9]+)?", value, re.IGNORECASE):
        how = {"int_type": "in plain digits without quotes"}
        how["float_type"] = "with a decimal point and a signed exponent, such as 1.0e-3"
        expected += f"; YAML reads {short(value)[1:-1]} as text, write it {how[kind]}" if kind in how else ""
    return f"{where} is {short(value)}: expected {expected}"


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
    return text if text.isprintable() and len(text) <= 200 else short(text).strip("'")


def short(value: Any) -> str:
    """A value as it is written, cut short."""
    try:
        text = repr(value)
    except ValueError:  # Python writes out no integer of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:77]}..."


def suggest(word: Any, known: Iterable[str]) -> str:
    """What goes on behind a word that is none of those that are known."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1) if isinstance(word, str) else []
    close = ["cuda"] if word == "gpu" and "cuda" in known else close  # which is nearer to cpu
    listing = f"there are {', '.join(known)}" if known else "no key belongs here"
    return f": did you mean '{close[0]}'? ({listing})" if close else f": {listing}"
