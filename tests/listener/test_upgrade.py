"""Upgrades from every former schema, with data, published files and changes that nobody has exported yet.

`tests/sql/former` has what `install --print` gave when each migration was the last one: functions, triggers and all.
"""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from datastore_dumper.install import install, migrations, require_installed
from datastore_dumper.storage.base import BytesPart, ObjectHeaders
from tests.support.daemon import Dumper
from tests.support.datastore import create_table
from tests.support.installation import ROLES, handle
from tests.support.waiting import eventually

FORMER = Path(__file__).parents[1] / "sql" / "former"
CSV = {"formats": ["csv"]}

_PUBLISH = """
INSERT INTO datastore_dumper.dump_status (
    resource_id, format, relid, storage_key, etag, bytes, rows, digest, content_type, compat, snapshot, lsn, timeline,
    signature, filenode, manifest, generated_at, duration_seconds
)
SELECT t.resource_id, 'csv', t.relid, %(key)s, %(etag)s, %(bytes)s, 1, 'digest', 'text/csv', '2.12', '1:1:',
    pg_current_wal_insert_lsn(), 1, datastore_dumper.signature(t.relid), pg_relation_filenode(t.relid), '{}', now(), 1
FROM datastore_dumper.datastore_table AS t WHERE t.resource_id = %(name)s
"""


def test_every_former_schema_is_here() -> None:
    assert [path.stem for path in sorted(FORMER.glob("*.sql"))] == [name[:4] for name in migrations()[:-1]]


@pytest.mark.parametrize("former", sorted(FORMER.glob("*.sql")), ids=lambda path: path.stem)
def test_an_upgrade_loses_nothing_and_makes_nothing_anew(dumper: Dumper, former: Path) -> None:
    database = dumper.database
    with database.connect() as admin, database.connect("ckan_write") as writer:
        admin.execute(former.read_bytes())
        for name in ("published", "changed", "new"):
            create_table(writer, name, {"a": "text"})
            writer.execute(f"INSERT INTO {name} (a) VALUES ('x')")
        for name in ("published", "changed"):
            publish(dumper, admin, name)
        writer.execute("UPDATE changed SET a = 'before'")
        with writer.transaction():  # the writer's transaction began under the former functions
            writer.execute("INSERT INTO changed (a) VALUES ('meanwhile')")
            report = install(handle(database), ROLES)
        assert (report.notices, report.tables, report.failed) == ((), 3, {})
        require_installed(admin)
        assert fresh(dumper) == {"published": True, "changed": False, "new": None}
        with dumper.running(export=CSV) as daemon:
            eventually(lambda: fresh(dumper) == dict.fromkeys(("published", "changed", "new"), True))
            with daemon.frozen():
                writer.execute("INSERT INTO published (a) VALUES ('after')")
                assert not fresh(dumper)["published"]
            eventually(lambda: all(fresh(dumper).values()))
        for name in ("published", "changed", "new"):
            rows = writer.execute(f"SELECT _id, a FROM {name} ORDER BY _id").fetchall()
            assert dumper.file(name) == b"_id,a\r\n" + b"".join(f"{id},{a}\n".encode() for id, a in rows)


def test_what_is_published_stays_published(dumper: Dumper) -> None:
    """Whoever upgrades a portal of many tables does not want all of them exported."""
    with dumper.database.connect() as admin, dumper.database.connect("ckan_write") as writer:
        admin.execute((FORMER / f"{migrations()[-2][:4]}.sql").read_bytes())
        create_table(writer, "t", {"a": "text"})
        writer.execute("INSERT INTO t (a) VALUES ('x')")
        key = publish(dumper, admin, "t")
        install(handle(dumper.database), ROLES)
        assert dumper.once(export=CSV) == 0
        assert admin.execute("SELECT storage_key FROM datastore_dumper.dump_status").fetchall() == [(key,)]


def publish(dumper: Dumper, admin: psycopg.Connection, name: str) -> str:
    """As the daemon of that time did: the file of a table of one row."""
    key, content = f"{name}/1/{name}.csv", b"_id,a\r\n1,x\n"
    written = dumper.storage.write(key, [BytesPart(content)], ObjectHeaders("text/csv", f"{name}.csv"))
    admin.execute(_PUBLISH, {"key": key, "etag": written.etag, "bytes": len(content), "name": name})
    admin.execute("DELETE FROM datastore_dumper.change WHERE relid = %s::regclass", [name])
    return key


def fresh(dumper: Dumper) -> dict[str, bool | None]:
    with dumper.database.connect("ckan_read") as reader:
        rows = reader.execute(
            "SELECT name, (SELECT fresh FROM datastore_dumper.lookup(name, 'csv')) "
            "FROM unnest(ARRAY['published', 'changed', 'new']) AS name"
        )
        return dict(rows.fetchall())
