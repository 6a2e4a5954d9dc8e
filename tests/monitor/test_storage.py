"""The storage that counts is the storage: what it returns, raises and leaves, with numbers beside it."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from datastore_dumper.errors import ExportError, ObjectMissingError, StorageError
from datastore_dumper.monitor import metrics
from datastore_dumper.monitor.storage import MeteredStorage
from datastore_dumper.storage.base import BytesPart, ObjectHeaders, ReusePart, Storage
from datastore_dumper.storage.disk import DiskStorage
from datastore_dumper.storage.settings import DiskSettings

HEADERS = ObjectHeaders("text/csv", "x.csv")


def value(name: str, **labels: str) -> float:
    return metrics.REGISTRY.get_sample_value(f"datastore_dumper_{name}", labels) or 0.0


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return MeteredStorage(DiskStorage(DiskSettings(tmp_path)))


def test_it_has_every_operation() -> None:
    wanted = {name: inspect.signature(each) for name, each in vars(Storage).items() if not name.startswith("_")}
    assert {name: inspect.signature(getattr(MeteredStorage, name)) for name in wanted} == wanted


def test_bytes_and_operations(storage: Storage) -> None:
    sent, reused = value("uploaded_bytes_total"), value("reused_bytes_total")
    writes = value("storage_operation_duration_seconds_count", operation="write")
    first = storage.write("a/1/a.csv", [BytesPart(b"x" * 1000)], HEADERS)
    storage.write("a/2/a.csv", [BytesPart(b"y"), ReusePart("a/1/a.csv", first.etag, 0, 600)], HEADERS)
    assert value("uploaded_bytes_total") - sent == 1001
    assert value("reused_bytes_total") - reused == 600
    assert value("storage_operation_duration_seconds_count", operation="write") - writes == 2
    assert [each.key for each in storage.list()] == ["a/1/a.csv", "a/2/a.csv"]


def test_errors(storage: Storage, tmp_path: Path) -> None:
    missing = value("storage_errors_total", operation="stat", kind="missing")
    with pytest.raises(ObjectMissingError):
        storage.stat("a/1/a.csv")
    assert value("storage_errors_total", operation="stat", kind="missing") - missing == 1

    def parts(error: Exception):
        yield BytesPart(b"x")
        raise error

    def writing() -> float:
        return sum(
            sample.value
            for family in metrics.STORAGE_ERRORS.collect()
            for sample in family.samples
            if sample.name.endswith("_total") and sample.labels["operation"] == "write"
        )

    before = writing()
    with pytest.raises(ExportError):
        storage.write("a/1/a.csv", parts(ExportError("the table changed")), HEADERS)
    assert writing() == before, "that is no error of the storage"
    (tmp_path / "a").write_text("no directory")
    with pytest.raises(StorageError):
        storage.write("a/1/a.csv", [BytesPart(b"x")], HEADERS)
    assert writing() == before + 1
