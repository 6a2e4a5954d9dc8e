"""`datastore-dumper verify`: wrong files of every kind are found, told and repaired; a changed table is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql

from datastore_dumper.errors import EXIT_FAILURE
from datastore_dumper.verify import line_around
from tests.cli.conftest import command
from tests.support.daemon import Dumper
from tests.support.datastore import create_table
from tests.support.seaweedfs import S3Server

FORMATS = ["csv", "csv-bom", "json"]
OTHER_FORMATS = ["csv.gz", "parquet", "xml"]
ROWS = 60_000


@pytest.fixture
def filled(dumper: Dumper, writer: psycopg.Connection, request: pytest.FixtureRequest) -> Dumper:
    """Several segments, in a few formats or in those that the test is marked with."""
    dumper.settings["export"] |= {"segment_bytes": 65536, "formats": getattr(request, "param", FORMATS)}
    writer.execute("INSERT INTO t (a) SELECT 'row ' || i FROM generate_series(1, %s) AS i", [ROWS])
    create_table(writer, "other", {"a": "text"})
    assert dumper.once() == 0
    return dumper


def path_of(dumper: Dumper, format_name: str, resource_id: str = "t") -> Path:
    with dumper.database.connect() as admin:
        row = admin.execute(
            "SELECT storage_key FROM datastore_dumper.dump_status WHERE resource_id = %s AND format = %s",
            [resource_id, format_name],
        ).fetchone()
    assert row is not None
    return dumper.directory / "files" / str(row[0])


def verify(dumper: Dumper, *arguments: str, code: int = 0) -> dict[tuple[str, str], dict[str, Any]]:
    done = command(dumper.write_config(), "verify", "--json", *arguments)
    assert done.returncode == code, done.stdout + done.stderr
    files = json.loads(done.stdout)["files"]
    return {(file["resource_id"], file["format"]): file for file in files}


def test_what_is_published_is_the_same(filled: Dumper) -> None:
    found = verify(filled)
    assert {(file["resource_id"], file["finding"]) for file in found.values()} == {("t", "same"), ("other", "same")}
    assert {format_name for _, format_name in found} == set(FORMATS)
    done = command(filled.write_config(), "verify")
    assert done.stdout.startswith("6 files: 6 same (")
    assert list(filled.directory.glob("*spool*")) == []


def test_what_was_made_under_other_settings_is_not_wrong(filled: Dumper) -> None:
    """The daemon makes it again by itself."""
    with filled.database.connect() as admin:
        admin.execute(
            sql.SQL("ALTER ROLE ckan_read IN DATABASE {} SET timezone = 'Asia/Tokyo'").format(
                sql.Identifier(filled.database.name)
            )
        )
    found = verify(filled)
    assert {file["finding"] for file in found.values()} == {"changed"}
    assert filled.once() == 0
    assert {file["finding"] for file in verify(filled).values()} == {"same"}


@pytest.mark.parametrize("filled", [OTHER_FORMATS], indirect=True)
def test_what_another_release_of_a_library_made_is_not_wrong(filled: Dumper, writer: psycopg.Connection) -> None:
    """But nothing of it is reused, so that one file is of one release."""
    with filled.database.connect() as admin:
        admin.execute(
            "UPDATE datastore_dumper.dump_status SET manifest = jsonb_set(manifest, '{encoder}', '\"older 1.0\"') "
            "WHERE manifest ->> 'encoder' <> ''"
        )
    found = {name: file["finding"] for (_, name), file in verify(filled, "t").items()}
    assert found == {"csv.gz": "changed", "parquet": "changed", "xml": "same"}
    writer.execute("UPDATE t SET a = 'x' WHERE _id = 1")
    assert filled.once() == 0
    assert {file["finding"] for file in verify(filled, "t").values()} == {"same"}
    with filled.database.connect() as admin:
        encoders = admin.execute(
            "SELECT manifest ->> 'encoder' FROM datastore_dumper.dump_status WHERE resource_id = 't'"
        )
        assert "older 1.0" not in {encoder for (encoder,) in encoders}


def test_the_first_difference_is_told_and_repaired(filled: Dumper) -> None:
    path = path_of(filled, "csv")
    expected = path.read_bytes()
    at = expected.index(b"row 40000")
    path.write_bytes(expected[:at] + b"ROW" + expected[at + 3 :].replace(b"row 41", b"ROW 41"))
    done = command(filled.write_config(), "verify", "t")
    assert done.returncode == EXIT_FAILURE
    first, published, wanted, *others = done.stdout.splitlines()
    assert first == f"t csv: DIFFERS: the first difference is in segment 2, at byte {at}"
    assert published == r"  published: 40000,ROW 40000"
    assert wanted == r"  expected:  40000,row 40000"
    assert others == ["3 files: 2 same, 1 differs (" + others[0].rpartition("(")[2]]
    report = command(filled.write_config(), "verify", "t", "--repair", "--json")
    assert report.returncode == EXIT_FAILURE, "it was wrong"
    assert [each["resource_id"] for each in json.loads(report.stdout)["repaired"]] == ["t"]
    assert filled.file("t") == expected
    assert {file["finding"] for file in verify(filled).values()} == {"same"}


@pytest.mark.parametrize("filled", [[*FORMATS, *OTHER_FORMATS]], indirect=True)
def test_any_byte_of_any_format(filled: Dumper) -> None:
    assert {file["finding"] for file in verify(filled).values()} == {"same"}
    contents = {name: path_of(filled, name).read_bytes() for name in (*FORMATS, *OTHER_FORMATS)}
    for share in (0, 0.5, 1):
        places = {name: int((len(content) - 1) * share) for name, content in contents.items()}
        for name, content in contents.items():
            at = places[name]
            path_of(filled, name).write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        found = verify(filled, "t", code=EXIT_FAILURE)
        assert {name: file["difference"]["offset"] for (_, name), file in found.items()} == places


@pytest.mark.parametrize(
    ("damage", "offset"), [(lambda data: data[:-5], -5), (lambda data: data + b"more", 0), (lambda data: b"", None)]
)
def test_other_lengths(filled: Dumper, damage: Any, offset: int | None) -> None:
    path = path_of(filled, "csv")
    content = path.read_bytes()
    path.write_bytes(damage(content))
    found = verify(filled, "t", code=EXIT_FAILURE)["t", "csv"]
    assert found["finding"] == "differs"
    assert found["difference"]["offset"] == (0 if offset is None else len(content) + offset)


def test_a_file_that_is_gone(filled: Dumper) -> None:
    path_of(filled, "csv-bom").unlink()
    found = verify(filled, "t", code=EXIT_FAILURE)
    assert found["t", "csv-bom"]["finding"] == "missing"
    assert found["t", "csv"]["finding"] == "same"
    verify(filled, "t", "--repair", code=EXIT_FAILURE)
    assert verify(filled, "t")["t", "csv-bom"]["finding"] == "same"


def test_rows_that_changed_past_the_triggers(filled: Dumper, writer: psycopg.Connection) -> None:
    """No change row tells of it: nothing but a comparison can."""
    with filled.database.connect() as admin:
        admin.execute("UPDATE t SET a = 'a lie' WHERE _id = 20000")
        admin.execute("DELETE FROM datastore_dumper.change")
    found = verify(filled, "t", code=EXIT_FAILURE)
    assert {file["finding"] for file in found.values()} == {"differs"}
    difference = found["t", "csv"]["difference"]
    assert (difference["segment"], difference["published"], difference["expected"]) == (
        1,
        "20000,row 20000",
        "20000,a lie",
    )


def test_a_table_that_has_changed_is_not_wrong(filled: Dumper, writer: psycopg.Connection) -> None:
    writer.execute("INSERT INTO t (a) VALUES ('new')")
    found = verify(filled)
    assert {file["finding"] for (name, _), file in found.items() if name == "t"} == {"changed"}
    assert {file["finding"] for (name, _), file in found.items() if name == "other"} == {"same"}
    assert "3 same, 3 changed since" in command(filled.write_config(), "verify").stdout


def test_another_compat_is_not_wrong(filled: Dumper) -> None:
    filled.settings["ckan"] = {"compat": "2.11"}
    assert {file["finding"] for file in verify(filled, "t").values()} == {"changed"}


def test_a_manifest_that_says_otherwise(filled: Dumper) -> None:
    """The next export would reuse by it."""
    with filled.database.connect() as admin:
        admin.execute(
            "UPDATE datastore_dumper.dump_status SET "
            "manifest = jsonb_set(manifest, '{segments,0,sha256}', '\"0\"') WHERE resource_id = 't' AND format = 'csv'"
        )
    found = verify(filled, "t", code=EXIT_FAILURE)
    assert found["t", "csv"]["finding"] == "differs"
    assert "manifest" in found["t", "csv"]["detail"]


def test_a_sample(filled: Dumper) -> None:
    assert len({name for name, _ in verify(filled, "--sample", "1")}) == 1
    assert len({name for name, _ in verify(filled, "--sample", "9")}) == 2


def test_a_table_that_somebody_holds(filled: Dumper) -> None:
    filled.settings["export"] |= {"lock_timeout_seconds": 0.01}
    with filled.database.connect("ckan_write") as other, other.transaction():
        other.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        found = verify(filled, "t", code=EXIT_FAILURE)
    assert {file["finding"] for file in found.values()} == {"failed"}


def test_names_and_emptiness(dumper: Dumper, writer: psycopg.Connection) -> None:
    done = command(dumper.write_config(), "verify", "nobody")
    assert done.returncode == EXIT_FAILURE
    assert "There is no DataStore table nobody" in done.stderr
    done = command(dumper.write_config(), "verify")
    assert (done.returncode, done.stdout) == (0, "There are no files.\n")


def test_in_a_bucket(filled: Dumper, s3_server: S3Server, s3_bucket: str) -> None:
    filled.settings["storage"] = {
        "type": "s3",
        "s3": {
            "endpoint": s3_server.endpoint,
            "secure": s3_server.secure,
            "bucket": s3_bucket,
            "access_key": s3_server.access_key,
            "secret_key": s3_server.secret_key,
        },
    }
    done = command(filled.write_config(), "dump", "--full", "t")
    assert done.returncode == 0, done.stderr
    found = verify(filled, "t")
    assert {file["finding"] for file in found.values()} == {"same"}


@given(st.binary(), st.integers(0, 400))
def test_the_line_that_is_shown_holds_the_place(data: bytes, at: int) -> None:
    at = min(at, len(data))
    line = line_around(data, at)
    assert line in data
    assert b"\n" not in line
    if at < len(data) and data[at : at + 1] != b"\n":
        assert data[at : at + 1] in line
