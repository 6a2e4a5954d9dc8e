"""The formats that files are published in, by name. Each is one small class."""

from __future__ import annotations

from datastore_dumper.errors import ConfigError
from datastore_dumper.formats.base import Column, Compat, FileFormat, Format, Table
from datastore_dumper.formats.csv import CsvFormat

__all__ = ["FORMATS", "Column", "Compat", "FileFormat", "Format", "Table", "file_format"]

FORMATS: dict[str, Format] = {format_.name: format_ for format_ in (CsvFormat(),)}


def file_format(name: str) -> FileFormat:
    """The format called `csv`, or `csv-bom` for the same with a byte order mark. Raises `ConfigError` for any other name."""
    plain = name.removesuffix("-bom")
    if plain not in FORMATS:
        known = ", ".join(f"{known}, {known}-bom" for known in FORMATS)
        raise ConfigError(f"export.formats: there is no format {name!r}", hint=f"Known formats: {known}.")
    return FileFormat(FORMATS[plain], bom=name.endswith("-bom"))
