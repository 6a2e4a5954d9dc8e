"""Validators of our actions' arguments. Each name in `__all__` is one."""

from __future__ import annotations

import ckan.plugins.toolkit as tk

from ckanext.datastore_dumper.logic.schema import LIST_LIMIT_MAX, sort_of
from ckanext.datastore_dumper.overview import SORTS

__all__ = ["datastore_dump_limit", "datastore_dump_sort"]


def datastore_dump_sort(value: str) -> str:
    """A column of the list, and `asc` or `desc` after it or not."""
    if sort_of(value) is None:
        raise tk.Invalid(tk._("Choose from {columns}, with asc or desc after it").format(columns=", ".join(SORTS)))
    return value


def datastore_dump_limit(value: int) -> int:
    """No more than a page may have."""
    return min(value, LIST_LIMIT_MAX)
