"""What the download menu offers: each format that the site has, with the ready file if there is one. Decides nothing else.

A file is ready if a request for it would be answered with it (`views`), so the same rules are asked here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ckanext.datastore_dumper.compat import objection
from ckanext.datastore_dumper.overview import FileStatus, ResourceStatus
from ckanext.datastore_dumper.request import FORMATS

WITH_MARK = ("csv", "tsv")
"""Formats whose buttons ask for a byte order mark, as CKAN's do."""

LABELS = {"csv.gz": "CSV (gzip)", "parquet": "Parquet"}


@dataclass(frozen=True)
class Offer:
    """A format in the menu."""

    format: str
    bom: bool
    file: FileStatus | None = None
    """The ready file. Without it, CKAN makes the dump when it is asked for, if it knows the format."""
    preparing: bool = False
    """The daemon makes this format, but has no file that shows the table."""

    @classmethod
    def of(cls, name: str, file: FileStatus | None = None, *, preparing: bool = False) -> Offer:
        """By the daemon's name for the format, `-bom` at the end included."""
        return cls(name.removesuffix("-bom"), name.endswith("-bom"), file, preparing)

    @property
    def label(self) -> str:
        return LABELS.get(self.format, self.format.upper())

    @property
    def live(self) -> bool:
        """Whether CKAN has this format itself."""
        return self.format in FORMATS

    @property
    def arguments(self) -> dict[str, str]:
        """Of the URL, as CKAN's own buttons have them."""
        named = {} if self.format == "csv" else {"format": self.format}
        return {**named, "bom": "True"} if self.bom else named


def is_ready(file: FileStatus, *, compat: str, alterations: tuple[str, ...], allowed_seconds: float) -> bool:
    """Whether a request would be answered with it. `compat` and `alterations` are the site's, `allowed_seconds` how far
    behind the table it may be."""
    if file.error is not None or objection(file.compat, compat, alterations) is not None:
        return False
    behind = file.seconds_behind if allowed_seconds else None
    return file.fresh or (behind is not None and behind <= allowed_seconds)


def offers(status: ResourceStatus, ready: Mapping[str, FileStatus], extra_formats: Iterable[str]) -> list[Offer]:
    """The menu, in CKAN's order and then the site's. `ready` has the files that are, by format.

    An extra format has no place where the table cannot be had in it, nor where the daemon does not make it.
    """
    made = {file.format for file in status.files if file.error is None}
    menu = []
    for format in FORMATS:
        names = [f"{format}-bom", format] if format in WITH_MARK else [format]
        best = next((name for name in names if name in ready), names[0])
        menu.append(Offer.of(best, ready.get(best), preparing=best not in ready and not made.isdisjoint(names)))
    extra = [format for format in extra_formats if format in made or not status.files]
    return menu + [Offer.of(format, ready.get(format), preparing=format not in ready) for format in extra]
