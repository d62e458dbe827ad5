"""What is made of the configuration's model: its documentation and a schema for editors.

``python -m negspike.config_reference`` writes both into a checkout, the current folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from negspike.config import Experiment

SCHEMA = Path("workflow", "schemas", "config.schema.json")
DOCUMENTATION = Path("docs", "configuration.md")
BEGIN = "<!-- keys: written by python -m negspike.config_reference -->"
END = "<!-- end of keys -->"
_KINDS = {"integer": "whole number", "number": "number", "string": "text", "object": "mapping"}


class _WithoutTitles(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def json_schema() -> dict[str, Any]:
    """The JSON schema of a file of configuration: nothing is required, since presets say only what they change."""
    schema = Experiment.model_json_schema(schema_generator=_WithoutTitles)
    for section in (schema, *schema["$defs"].values()):
        section.pop("required", None)
    return schema


def key_table() -> str:
    """A Markdown table of all keys: what is right and what it means."""
    schema = json_schema()
    known = r"^datasets\.\w+\.\w+"
    keys = {re.sub(known, "datasets.<dataset>.<file>", key): entry for key, entry in _keys(schema)}
    # of one's own dataset, files are written as those of others
    keys = {key: entry for key, entry in keys.items() if "#/$defs/File" not in str(entry)}
    rows = [f"| `{key}` | {_value(entry)} | {entry['description']} |" for key, entry in keys.items()]
    return "\n".join(("| key | value | meaning |", "| --- | --- | --- |", *rows))


def with_key_table(text: str) -> str:
    """A document with the table of now between its two marks."""
    return re.sub(f"(?<={BEGIN}\n).*(?={END})", lambda _: f"\n{key_table()}\n\n", text, count=1, flags=re.DOTALL)


def _keys(schema: dict[str, Any], path: str = "", sections: Any = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every key that has no keys in it, with its schema."""
    sections = sections or schema["$defs"]
    if "$ref" in schema:
        schema = sections[schema["$ref"].rpartition("/")[2]]
    inner = {f"{path}.{key}".lstrip("."): entry for key, entry in schema.get("properties", {}).items()}
    inner |= {f"{path}.<name>": entry for entry in schema.get("patternProperties", {}).values()}
    other = schema.get("additionalProperties")
    inner |= {f"{path}.<name>": other} if isinstance(other, dict) and "default" not in schema else {}
    inner |= {f"{path}[]": entry for entry in [schema.get("items", {})] if "$ref" in entry}
    if not inner and (schema.get("type") != "object" or "default" in schema):
        yield path, schema
    for key, entry in inner.items():
        yield from _keys(entry, key, sections)


def _value(schema: dict[str, Any]) -> str:
    """What may stand there, in words."""
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(_value(choice) for choice in choices if choice.get("type") != "null")
    if "$ref" in schema:
        return "`levels: L`"
    if schema.get("type") == "boolean":
        return "`true`, `false`"
    if "enum" in schema or schema.get("const") is not None:
        return ", ".join(f"`{choice}`" for choice in schema.get("enum", [schema.get("const")]))
    if schema["type"] == "array":
        return f"list of: {_value(schema.get('items') or schema['prefixItems'][0])}"
    words = [_KINDS[schema["type"]]]
    words += [f"from {schema['minimum']:,}"] if "minimum" in schema else []
    words += [f"above {schema['exclusiveMinimum']:,}"] if "exclusiveMinimum" in schema else []
    words += [f"up to {schema['maximum']:,}"] if "maximum" in schema else []
    words += [f"like `{schema['pattern']}`".replace("|", "\\|")] if "pattern" in schema else []
    return " ".join(words)


if __name__ == "__main__":
    SCHEMA.write_text(json.dumps(json_schema(), indent=1) + "\n", encoding="utf-8")
    DOCUMENTATION.write_text(with_key_table(DOCUMENTATION.read_text(encoding="utf-8")), encoding="utf-8")
