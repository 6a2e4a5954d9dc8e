"""The name of the release whose bytes a site sends."""

from __future__ import annotations

import pytest

from ckanext.datastore_dumper.compat import compat_of


@pytest.mark.parametrize(
    ("version", "ms_in_timestamp", "compat"),
    [
        ("2.10.10", False, "2.10"),
        ("2.11.5", True, "2.11"),
        ("2.12.0", True, "2.12"),
        ("2.12.0b0", True, "2.12"),
        ("2.12.3", False, "2.12-noms"),
        ("2.13.0a0", True, "2.13"),
        ("3.0.0", False, "3.0-noms"),
    ],
)
def test_compat(version: str, ms_in_timestamp: bool, compat: str) -> None:
    assert compat_of(version, ms_in_timestamp=ms_in_timestamp) == compat


def test_what_is_no_version_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown"):
        compat_of("unknown", ms_in_timestamp=True)
