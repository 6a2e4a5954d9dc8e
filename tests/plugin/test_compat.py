"""The name of the release whose bytes a site sends, and which files may pass for them."""

from __future__ import annotations

import pytest

from ckanext.datastore_dumper.compat import ALTERATIONS, compat_of, objection
from datastore_dumper.formats import Compat


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


COMPATS = ("2.10", "2.11", "2.12", "2.12-noms", "2.13")


@pytest.mark.parametrize("running", COMPATS)
@pytest.mark.parametrize("made_for", COMPATS)
@pytest.mark.parametrize("alterations", [(), ("labels",), ("omit_id", "labels")])
def test_ckans_own_bytes_are_for_the_ckan_that_sends_them(
    made_for: str, running: str, alterations: tuple[str, ...]
) -> None:
    """A site that wants altered files may have others: some formats are never altered, and CKAN itself is not."""
    assert (objection(made_for, running, alterations) is None) == (made_for == running)


@pytest.mark.parametrize(
    ("made_for", "alterations", "allowed"),
    [
        ("2.12+labels", (), False),
        ("2.12+labels", ("labels",), True),
        ("2.12+labels", ("omit_id",), False),
        ("2.12+labels", ("labels", "omit_id"), False),
        ("2.12+labels+omit_id", ("omit_id",), False),
        ("2.12+labels+omit_id", ("omit_id", "labels"), True),
        ("2.12-noms+omit_id", ("omit_id",), False),
        ("2.11+omit_id", ("omit_id",), False),
    ],
)
def test_an_altered_file_is_handed_out_only_where_all_of_it_is_wanted(
    made_for: str, alterations: tuple[str, ...], allowed: bool
) -> None:
    assert (objection(made_for, "2.12", alterations) is None) == allowed


@pytest.mark.parametrize(
    ("made_for", "running", "way_out"),
    [
        ("2.12", "2.10", 'ckan.compat to "2.10" in the daemon'),
        ("2.10", "2.11", 'ckan.compat to "2.11" in the daemon'),
        ("2.11", "2.12", 'ckan.compat to "2.12" and ckan.ms_in_timestamp to true'),
        ("2.12", "2.12-noms", 'ckan.compat to "2.12" and ckan.ms_in_timestamp to false'),
        ("2.12+labels", "2.11", 'ckan.compat to "2.11" in the daemon'),
        ("2.12+labels+omit_id", "2.12", "alterations = labels omit_id;"),
    ],
)
def test_the_objection_names_the_way_out(made_for: str, running: str, way_out: str) -> None:
    assert way_out in (objection(made_for, running, ()) or "")


@pytest.mark.parametrize(
    "compat",
    [
        Compat("2.10"),
        Compat("2.11", ms_in_timestamp=False),
        Compat("2.12"),
        Compat("2.12", ms_in_timestamp=False),
        Compat("2.12", labels=True),
        Compat("2.12", ms_in_timestamp=False, labels=True, omit_id=True),
    ],
)
def test_daemon_and_plugin_speak_the_same_words(compat: Compat) -> None:
    wanted = tuple(name for name in ALTERATIONS if getattr(compat, name))
    running = compat_of(f"{compat.release}.3", ms_in_timestamp=compat.ms_in_timestamp)
    assert objection(str(compat), running, wanted) is None
