"""The settings told to people and to editors: docs/settings.md and the JSON schema of docyard.toml."""

from __future__ import annotations

from typing import Any

from docyard.settings import PREFIX, Settings, setting_names

_HEAD = """# Settings

Each setting has one name. It is read from, the later winning:

1. the default below,
2. `docyard.toml` in the current folder, or the file that `--config` names: `name = value`, where a table
   may stand for the first word (`[pool]` and below it `max_size = 20` is `pool_max_size`),
3. the environment: `DOCYARD_` and the name in capitals,
4. the command line: `--database-url`, `--home`.

An unknown name is refused. `docyard config show` says what is in force and where from, with secrets masked;
`docyard config schema` prints a JSON schema of the file. The `openai` client's own `OPENAI_API_KEY`,
`OPENAI_BASE_URL`, `OPENAI_ORG_ID` and `OPENAI_PROJECT_ID` are honoured as they are.

This page is printed by `docyard config reference`.
"""


def settings_markdown() -> str:
    """A page with every setting: name, values, default, meaning."""
    lines = [_HEAD, "| setting | values | default | meaning |", "|---|---|---|---|"]
    for name, field in setting_names().items():
        entry = _schema_of(field)
        default = Settings.model_fields[field].default
        if isinstance(default, bool):
            default = str(default).lower()
        shown = "" if default is None else f"`{default}`"
        lines.append(f"| `{name}` | {_values(entry)} | {shown} | {entry.get('description', '')} |")
    return "\n".join(lines) + "\n"


def settings_schema() -> dict[str, Any]:
    """A JSON schema of docyard.toml, with flat names and with tables."""
    flat = {}
    for name, field in setting_names().items():
        flat[name] = _schema_of(field) | {"x-environment": f"{PREFIX}{name.upper()}"}
    tables: dict[str, dict[str, Any]] = {}
    for name, entry in flat.items():
        group, _, rest = name.partition("_")
        if rest:
            tables.setdefault(group, {})[rest] = entry
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "docyard.toml",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            name: {"type": "object", "additionalProperties": False, "properties": entries}
            for name, entries in tables.items()
        }
        | flat,
    }


def _schema_of(field: str) -> dict[str, Any]:
    entry: dict[str, Any] = dict(Settings.model_json_schema(by_alias=False)["properties"][field])
    del entry["title"]
    return entry


def _values(entry: dict[str, Any]) -> str:
    """What a setting takes, in words."""
    if "anyOf" in entry:
        # None is no value that could be written; Decimal also takes text, which nobody needs to know.
        kinds = [_values(kind) for kind in entry["anyOf"] if kind.get("type") != "null"]
        return kinds[0]
    if "enum" in entry:
        return ", ".join(f"`{value}`" for value in entry["enum"])
    if "const" in entry:
        return f"`{entry['const']}`"
    words = {"integer": "whole number", "number": "number", "boolean": "`true`, `false`"}
    kind = words.get(
        entry.get("type", ""),
        {"path": "path", "password": "secret text"}.get(entry.get("format", ""), "text"),
    )
    limits = (("exclusiveMinimum", "above"), ("minimum", "from"), ("maximum", "to"))
    bounds = " ".join(f"{word} {entry[key]:g}" for key, word in limits if key in entry)
    return f"{kind} {bounds}".strip()
