"""What must hold once nobody writes and the daemons had their time: each file shows its table, and nothing is left over."""

from __future__ import annotations

from pathlib import Path

from datastore_dumper.garbage import collect_garbage
from datastore_dumper.storage.base import Storage
from datastore_dumper.storage.disk import DiskStorage
from datastore_dumper.storage.disk_files import is_temporary
from datastore_dumper.storage.s3 import S3Storage
from tests.support.postgres import Connection, ScratchDatabase


def not_fresh(connection: Connection, formats: list[str]) -> list[str]:
    """The files that lookup does not call fresh, as `table.format`."""
    rows = connection.execute(
        """
        SELECT t.resource_id || '.' || f FROM datastore_dumper.datastore_table t CROSS JOIN unnest(%s::text[]) f
        WHERE NOT coalesce((SELECT l.fresh FROM datastore_dumper.lookup(t.resource_id, f) l), false) ORDER BY 1
        """,
        [formats],
    ).fetchall()
    return [name for (name,) in rows]


def left_in_database(connection: Connection) -> dict[str, int]:
    """Change rows and leases. Empty if there are none."""
    row = connection.execute(
        "SELECT (SELECT count(*) FROM datastore_dumper.change), "
        "(SELECT count(*) FROM datastore_dumper.resource WHERE lease_owner IS NOT NULL)"
    ).fetchone()
    assert row is not None
    return {name: count for name, count in zip(("change rows", "leases"), row, strict=True) if count}


def collect_all(database: ScratchDatabase, storage: Storage) -> None:
    """Garbage collection as it will be once every link has expired and every announcement is old. No daemon may run."""
    with database.connect() as connection:
        connection.execute("UPDATE datastore_dumper.garbage SET delete_after = '-infinity'")
        collect_garbage(connection, storage)


def orphans(database: ScratchDatabase, storage: Storage) -> list[str]:
    """Objects that no status points to, unfinished uploads, temporary files. Call `collect_all` before."""
    with database.connect() as connection:
        wanted = {key for (key,) in connection.execute("SELECT storage_key FROM datastore_dumper.dump_status")}
        rows = connection.execute("SELECT key FROM datastore_dumper.garbage").fetchall()
    found = [f"garbage {key}" for (key,) in rows]
    found += [f"object {stored.key}" for stored in storage.list() if stored.key not in wanted]
    if isinstance(storage, S3Storage):
        found += [f"upload of {key}" for key, _, _ in storage._client.uploads("")]
    elif isinstance(storage, DiskStorage):
        root = storage.settings.directory
        found += [f"temporary file {path}" for path in root.rglob(".*") if is_temporary(path.name)]
        found += [f"empty directory {path}" for path in root.rglob("*") if path.is_dir() and not any(path.iterdir())]
    return found


def spools(directory: Path) -> list[str]:
    """Spool directories below `directory`, also those that have no name yet."""
    return [path.name for path in directory.iterdir() if "datastore-dumper-" in path.name]
