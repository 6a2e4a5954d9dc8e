"""csv.gz is CKAN's CSV for every tool that reads gzip, and a run of members of which each can be replaced by itself."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import pytest

from datastore_dumper.errors import ConfigError
from datastore_dumper.formats import Compat, file_format
from datastore_dumper.formats.base import Column, Table
from datastore_dumper.formats.csv_gz import CsvGzFormat
from datastore_dumper.install import install
from datastore_dumper.plan import Fresh
from tests.support.daemon import Dumper
from tests.support.datastore import create_table
from tests.support.exporting import Exporter
from tests.support.installation import ROLES, handle

PARTS = (Fresh(None, 0), Fresh(1, 1), Fresh(2, 7), Fresh(8, None))  # buckets of 8192 ids


def fill(exporter: Exporter, rows: int) -> None:
    create_table(exporter.writer, "t", {"a": "text", "ü": "float8"})
    exporter.writer.execute("ALTER TABLE t DISABLE TRIGGER zfulltext")
    exporter.writer.execute(
        'INSERT INTO t (a, "ü") SELECT md5(i::text) || E\'"\\r\\n🦆\', sin(i) FROM generate_series(1, %s) i', [rows]
    )


def members(data: bytes) -> list[bytes]:
    """The contents of each gzip member."""
    found = []
    while data:
        member = zlib.decompressobj(16 + zlib.MAX_WBITS)
        found.append(member.decompress(data))
        assert member.eof
        data = member.unused_data
    return found


@pytest.mark.parametrize("rows", [0, 1, 40_000])
def test_every_reader_of_gzip_gets_the_csv_file(exporter: Exporter, rows: int) -> None:
    fill(exporter, rows)
    plain = exporter.file("t", "csv").read_bytes()
    packed = exporter.file("t", "csv.gz", PARTS)
    assert gzip.decompress(packed.read_bytes()) == plain
    assert subprocess.run(["gzip", "-dc", packed], check=True, capture_output=True, timeout=90).stdout == plain
    subprocess.run(["gzip", "-t", packed], check=True, timeout=90)


def test_the_header_and_each_segment_with_rows_are_members(exporter: Exporter) -> None:
    fill(exporter, 30_000)
    head, *segments = members(exporter.file("t", "csv.gz", PARTS).read_bytes())
    assert head == "_id,a,ü\r\n".encode()
    assert [segment.count("🦆".encode()) for segment in segments] == [8191, 8192, 30_000 - 16_383]
    assert exporter.segments("t", "csv.gz", PARTS)[3].length == 0


def test_equal_rows_make_equal_bytes_without_time_and_name(exporter: Exporter) -> None:
    fill(exporter, 20_000)
    first, second = (exporter.file("t", "csv.gz", PARTS).read_bytes() for _ in range(2))
    assert hashlib.sha256(first).digest() == hashlib.sha256(second).digest()
    # RFC 1952, 2.3: no flags, so no name; modification time 0.
    assert first[:8] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00"


WITHOUT_ISAL = """
import sys
sys.modules["isal"] = sys.modules["isal.isal_zlib"] = None
from datastore_dumper.formats.base import Column, Compat, Table
from datastore_dumper.formats.csv_gz import CsvGzFormat
table, compat = Table("t", (Column("_id", "int4"),)), Compat()
rows = (b"%d\\n" % number for number in range(200_000))
sys.stdout.buffer.write(CsvGzFormat().head(table, compat) + b"".join(CsvGzFormat().rows(rows, table, compat)))
"""


def test_without_isal_zlib_does_it() -> None:
    made = subprocess.run([sys.executable, "-c", WITHOUT_ISAL], check=True, capture_output=True, timeout=90).stdout
    rows = b"".join(b"%d\n" % number for number in range(200_000))
    assert members(made) == [b"_id\r\n", rows]
    table, compat = Table("t", (Column("_id", "int4"),)), Compat()
    with_isal = b"".join(CsvGzFormat().rows(iter(rows.splitlines(keepends=True)), table, compat))
    assert gzip.decompress(with_isal) == rows
    assert made != CsvGzFormat().head(table, compat) + with_isal  # it was another library


def test_there_is_no_byte_order_mark_in_csv_gz() -> None:
    with pytest.raises(ConfigError, match=r"csv\.gz-bom"):
        file_format("csv.gz-bom")


def test_formats_of_a_table_that_changes_show_the_same_state(dumper: Dumper, tmp_path: Path) -> None:
    """While csv, csv.gz and parquet are read one after another, somebody writes all the time."""
    import pyarrow.parquet as pq

    with dumper.database.connect("ckan_write") as writer:
        create_table(writer, "t", {"a": "int4"})
        writer.execute("ALTER TABLE t DISABLE TRIGGER zfulltext")
        writer.execute("INSERT INTO t (a) SELECT 0 FROM generate_series(1, 20000)")
    install(handle(dumper.database), ROLES)
    over, wrote = threading.Event(), threading.Event()

    def write() -> None:
        with dumper.database.connect("ckan_write") as connection:
            while not over.is_set():
                connection.execute("UPDATE t SET a = a + 1 WHERE _id % 100 = 0")
                connection.execute("INSERT INTO t (a) VALUES (-1)")
                wrote.set()

    busy = threading.Thread(target=write)
    busy.start()
    states = set()
    try:
        assert wrote.wait(90)
        for _ in range(3):
            assert dumper.once(export={"formats": ["csv", "csv.gz", "parquet"]}) == 0
            plain = dumper.file("t", "csv")
            assert gzip.decompress(dumper.file("t", "csv.gz")) == plain
            path = tmp_path / "read.parquet"
            path.write_bytes(dumper.file("t", "parquet"))
            table = pq.read_table(path)
            lines = [f"{id_},{a}" for id_, a in zip(*(column.to_pylist() for column in table.columns), strict=True)]
            assert ["_id,a", *lines] == plain.decode().split()
            states.add(plain)
    finally:
        over.set()
        busy.join()
    assert len(states) == 3


def test_published_as_a_gzip_file(dumper: Dumper) -> None:
    with dumper.database.connect("ckan_write") as writer:
        create_table(writer, "t", {"a": "text"})
        writer.execute("INSERT INTO t (a) VALUES ('x')")
    install(handle(dumper.database), ROLES)
    assert dumper.once(export={"formats": ["csv.gz"]}) == 0
    with dumper.database.connect() as admin:
        row = admin.execute("SELECT content_type, storage_key FROM datastore_dumper.dump_status").fetchone()
    assert row is not None
    assert row[0] == "application/gzip"
    assert row[1].endswith("/t.csv.gz")
    assert members(dumper.file("t", "csv.gz")) == [b"_id,a\r\n", b"1,x\n"]
