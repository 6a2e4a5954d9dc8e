"""The contenders, in the order in which they stand in tables."""

from __future__ import annotations

from collections.abc import Sequence

from bench.compare.changes import FIRST, Change
from bench.compare.ckan_dump import CkanDump
from bench.compare.job_queue import JobQueue
from bench.compare.product import Product, Storage, name_of
from bench.compare.psql_script import PsqlScript
from bench.compare.stage import Stage

Way = CkanDump | JobQueue | PsqlScript | Product
FORMATS = ("csv", "tsv", "json", "xml")
"""CKAN's. The first of them is made by all, after each change; the others are compared once, as first dumps."""
_CSV: tuple[tuple[str, Storage], ...] = (("csv", "disk"), ("csv", "S3"), ("csv.gz", "S3"))


def all_ways(stage: Stage, formats: Sequence[str]) -> list[Way]:
    """Those for CSV, and CKAN's and the product's for these other formats."""
    others = [format_ for format_ in FORMATS[1:] if format_ in formats]
    return [
        *(CkanDump(stage, format_) for format_ in (FORMATS[0], *others)),
        JobQueue(stage),
        PsqlScript(stage, gzip=False),
        PsqlScript(stage, gzip=True),
        *(Product(stage, *variant) for variant in _variants(others)),
    ]


def copies(formats: Sequence[str]) -> list[str]:
    """Names of the databases that the product's variants need."""
    return [name_of(*variant) for variant in _variants([each for each in FORMATS[1:] if each in formats])]


def takes_part(way: Way, change: Change) -> bool:
    """Whether a file is made of this change. CKAN's own dump is made for downloads, and costs what the first one does."""
    return change is FIRST or not (isinstance(way, CkanDump) or way.format in FORMATS[1:])


def _variants(others: Sequence[str]) -> list[tuple[str, Storage]]:
    return [*_CSV, *((format_, "S3") for format_ in others)]
