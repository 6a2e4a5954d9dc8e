"""The formats that files are published in. Each is one small class, found by name through an entry point (`registry`)."""

from __future__ import annotations

from datastore_dumper.formats.base import Column, Compat, FileFormat, Format, Table
from datastore_dumper.formats.registry import file_format, file_format_names

__all__ = ["Column", "Compat", "FileFormat", "Format", "Table", "file_format", "file_format_names"]
