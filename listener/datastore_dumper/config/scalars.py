"""How text stands for a value: plain decimal numbers, words for true and false, lists with commas.

Notations that people and programs read differently (010, 1:30, 1_000) are no numbers here.
"""

from __future__ import annotations

import re

from datastore_dumper.config.fields import Setting

_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})", re.ASCII)
_NUMBER = re.compile(r"[-+]?(?:(?:0|[1-9][0-9]{0,17})(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?", re.ASCII)
_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def whole_number(text: str) -> int | None:
    """The number, or None if the text is none."""
    return int(text) if _INTEGER.fullmatch(text) else None


def number(text: str) -> float | None:
    """The number, or None if the text is none."""
    return float(text) if _NUMBER.fullmatch(text) else None


def from_text(setting: Setting, text: str) -> object:
    """The text as the setting's type; unchanged where it is none, for the model to refuse."""
    value: object = None
    if setting.kind == "boolean":
        value = _BOOLEANS.get(text.strip().lower())
    elif setting.kind == "integer":
        value = whole_number(text.strip())
    elif setting.kind == "number":
        value = number(text.strip())
    elif setting.kind in ("list", "texts"):
        value = tuple(item.strip() for item in text.split(","))
    return text if value is None else value
