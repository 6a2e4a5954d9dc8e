"""What our actions are given: one schema for each, made of CKAN's validators."""

from __future__ import annotations

from typing import Any

import ckan.plugins.toolkit as tk

from ckanext.datastore_dumper.overview import SORTS, STATES

LIST_LIMIT_DEFAULT = 25
LIST_LIMIT_MAX = 1000
_DIRECTIONS = ("asc", "desc")


def dump_status_schema() -> dict[str, Any]:
    """Of `datastore_dump_status`."""
    return {"resource_id": _validators("not_empty", "unicode_safe"), **_nothing_else()}


def dump_request_schema() -> dict[str, Any]:
    """Of `datastore_dump_request`."""
    return {
        "resource_id": _validators("not_empty", "unicode_safe"),
        "force": [_default(False), *_validators("boolean_validator")],
        **_nothing_else(),
    }


def dump_list_schema() -> dict[str, Any]:
    """Of `datastore_dump_list`."""
    return {
        "q": [_default(""), *_validators("unicode_safe")],
        "state": [*_validators("ignore_empty", "unicode_safe"), tk.get_validator("one_of")(list(STATES))],
        "sort": [_default("resource_id"), *_validators("unicode_safe", "datastore_dump_sort")],
        "limit": [_default(LIST_LIMIT_DEFAULT), *_validators("natural_number_validator", "datastore_dump_limit")],
        "offset": [_default(0), *_validators("natural_number_validator")],
        **_nothing_else(),
    }


def sort_of(text: str) -> tuple[str, bool] | None:
    """`bytes desc` as column and whether it descends; None if it is neither a column nor one with a direction."""
    column, _, direction = text.partition(" ")
    if column not in SORTS or (direction or "asc") not in _DIRECTIONS:
        return None
    return column, direction == "desc"


def _default(value: object) -> Any:
    return tk.get_validator("default")(value)


def _validators(*names: str) -> list[Any]:
    return [tk.get_validator(name) for name in names]


def _nothing_else() -> dict[str, Any]:
    return {"__extras": _validators("ignore"), "__junk": _validators("empty")}
