"""Finds formats by name: classes that installed distributions offer in the entry point group `datastore_dumper.formats`.

Ours are found the same way as anybody's. A class is imported when its format is asked for, not before.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points

from datastore_dumper.errors import ConfigError, DumperError
from datastore_dumper.formats.base import FileFormat, Format

GROUP = "datastore_dumper.formats"

CKAN_FORMATS = ("csv", "tsv", "json", "xml")
"""CKAN's DUMP_FORMATS (ckanext/datastore/blueprint.py): the formats that it sends, each with a byte order mark if asked."""
_BOM = "-bom"


def file_format_names() -> tuple[str, ...]:
    """What `export.formats` may hold: CKAN's formats, each plain and with `-bom`, then others in the order of the alphabet."""
    offered = {entry.name for entry in entry_points(group=GROUP)}
    ckans = [file_name for name in CKAN_FORMATS if name in offered for file_name in (name, name + _BOM)]
    return (*ckans, *sorted(offered - set(CKAN_FORMATS)))


@cache
def file_format(name: str) -> FileFormat:
    """The format called `csv`, or `csv-bom` for the same with a byte order mark.

    Raises `ConfigError` for a name that no distribution offers, or more than one, and for a format that cannot be loaded.
    """
    plain = name.removesuffix(_BOM)
    if plain in CKAN_FORMATS:
        return FileFormat(load_format(plain), bom=plain != name)
    return FileFormat(load_format(name), bom=False)


@cache
def load_format(name: str) -> Format:
    """The one instance of the format with this name. Raises as `file_format` does."""
    offers = tuple(entry_points(group=GROUP, name=name))
    if not offers:
        known = ", ".join(file_format_names()) or "none; install the distribution again"
        raise ConfigError(f"There is no format {name!r}", hint=f"Known formats: {known}.")
    if len(offers) > 1:
        raise ConfigError(
            f"More than one format is called {name!r}: {', '.join(map(_described, offers))}",
            hint="Uninstall all but one of them.",
        )
    (offer,) = offers
    try:
        made: object = offer.load()()
    except DumperError:
        raise  # it says itself what it lacks
    # Whatever the module of somebody else raises at import is the reason why the format is not to be had.
    except Exception as error:
        raise ConfigError(
            f"The format {name!r} cannot be loaded from {_described(offer)}: {type(error).__name__}: {error}",
            hint="Install what it needs, or take it out of export.formats.",
        ) from error
    if not isinstance(made, Format) or made.name != name:
        raise ConfigError(
            f"{_described(offer)} is no subclass of Format with the name {name!r}",
            hint="docs/how-to/add-a-format.md says what a format is.",
        )
    return made


def _described(offer: EntryPoint) -> str:
    return f"{offer.value} ({offer.dist.name} {offer.dist.version})" if offer.dist else offer.value
