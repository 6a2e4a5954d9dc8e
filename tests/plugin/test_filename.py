"""What a download is saved as where the site wants names that people can read."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckanext.datastore_dumper.filename import readable_filename
from datastore_dumper.storage.disposition import clean_filename

MADE = datetime(2026, 3, 1, 23, 30, tzinfo=timezone(timedelta(hours=-2)))  # already the second in UTC


@pytest.mark.parametrize(
    ("name", "source_format", "extension", "expected"),
    [
        ("Bus stops", "CSV", "csv", "Bus stops-2026-03-02.csv"),
        ("stops.CSV", "csv", "csv", "stops-2026-03-02.csv"),
        ("stops.xlsx", "XLSX", "csv.gz", "stops-2026-03-02.csv.gz"),
        ("stops.csv", "CSV", "parquet", "stops-2026-03-02.parquet"),
        ("Release 1.2", "CSV", "csv", "Release 1.2-2026-03-02.csv"),
        ("Αφίξεις 到着 🚌", "CSV", "json", "Αφίξεις 到着 🚌-2026-03-02.json"),
        ("", "CSV", "csv", None),
        (None, None, "csv", None),
        (" .csv", "CSV", "csv", None),
        ("../..", "", "csv", None),
    ],
)
def test_names(name: str | None, source_format: str | None, extension: str, expected: str | None) -> None:
    assert readable_filename(name, source_format, MADE, extension) == expected


@given(st.text(), st.text(max_size=8), st.sampled_from(["csv", "csv.gz", "parquet"]))
def test_day_and_extension_survive_whatever_the_name_is(name: str, source_format: str, extension: str) -> None:
    found = readable_filename(name * 50, source_format, MADE, extension)
    assert found is None or clean_filename(found).endswith(f"-2026-03-02.{extension}")
