"""What the reconciler asks of all tables at once is what `lookup` asks of one."""

from __future__ import annotations

from datastore_dumper.install import install
from tests.support.datastore import create_table
from tests.support.installation import ROLES, handle
from tests.support.postgres import ScratchDatabase

_TABLES = """
CREATE TYPE mood AS ENUM ('sad', 'it''s fine');
CREATE DOMAIN moody AS mood;
CREATE TABLE kinds (_id int NOT NULL, m mood, ms mood[], d moody, n numeric(5, 2), "odd %s ""name" text,
    twice int GENERATED ALWAYS AS (_id * 2) STORED);
CREATE TABLE gone (_id int NOT NULL, a text, b text);
ALTER TABLE gone DROP COLUMN a;
CREATE TABLE bare (_id bigint NOT NULL);
CREATE TABLE no_id (a text);
"""


def test_all_at_once_and_one_by_one_are_the_same(database: ScratchDatabase) -> None:
    install(handle(database), ROLES)
    with database.connect("ckan_write") as writer:
        writer.execute(_TABLES)
        create_table(writer, "t", {"a": "text", "n": "nested"}, info={"a": {"label": "it's"}})
        create_table(writer, "off", {"a": "text"})
        create_table(writer, "old", {"a": "text"})
        create_table(writer, "less", {"a": "text"})
    with database.connect() as admin:
        admin.execute("ALTER TABLE off ENABLE TRIGGER datastore_dumper_insert")
        admin.execute("COMMENT ON TRIGGER datastore_dumper_update ON old IS 'of old'")
        admin.execute("DROP TRIGGER datastore_dumper_delete ON less")
    with database.connect("dumper") as daemon:
        daemon.execute("SET quote_all_identifiers = on")
        rows = daemon.execute("SELECT relid, signature, is_watched FROM datastore_dumper.signatures()").fetchall()
        one_by_one = daemon.execute(
            "SELECT relid, datastore_dumper.signature(relid), datastore_dumper.sound_triggers(relid) = 4 "
            "FROM datastore_dumper.datastore_table"
        ).fetchall()
        assert sorted(rows) == sorted(one_by_one)
        names = daemon.execute("SELECT resource_id, relid FROM datastore_dumper.datastore_table").fetchall()
        watched = {relid: is_watched for relid, _, is_watched in rows}
        assert {name for name, relid in names if not watched[relid]} == {"off", "old", "less"}
