"""Leases and publishing: whoever lost the table publishes nothing, and what is announced is never lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from datastore_dumper.choice import Choice, Selection
from datastore_dumper.database import Connection
from datastore_dumper.errors import ExportError, LeaseLostError, TableChangedError
from datastore_dumper.export import TableState, hold_snapshot
from datastore_dumper.install import install
from datastore_dumper.lease import Lease, Leases, release
from datastore_dumper.manifest import Manifest, Segment, sha256_of
from datastore_dumper.publish import NewFile, announce, publish, published_files
from datastore_dumper.reconcile import reconcile
from datastore_dumper.sqlfiles import query
from tests.support.datastore import create_table
from tests.support.installation import ROLES, handle
from tests.support.postgres import ScratchDatabase


@dataclass
class Stage:
    """A table t, the daemon's connection, and the row of t."""

    database: ScratchDatabase
    connection: Connection
    writer: Connection
    relid: int

    def claim(self, leases: Leases) -> Lease:
        lease = leases.claim(self.connection, self.relid)
        assert lease is not None
        return lease

    def write(self) -> None:
        """So that there is something to claim the table for."""
        self.writer.execute("INSERT INTO t (a) VALUES ('x')")

    def state(self) -> TableState:
        with handle(self.database, "dumper").connect("holder") as holder, hold_snapshot(holder, self.relid) as state:
            return state

    def all(self, statement: str) -> list[tuple[object, ...]]:
        return self.connection.execute(statement.encode()).fetchall()

    def publish(self, lease: Lease, state: TableState, file: NewFile) -> None:
        ((installation,),) = self.all("SELECT id FROM datastore_dumper.installation")
        publish(
            self.connection, lease, state, [file], (), choice=Choice("always", formats=(file.format,)),
            installation=installation, retain_seconds=100, duration_seconds=1,
        )  # fmt: skip


@pytest.fixture
def stage(database: ScratchDatabase) -> Iterator[Stage]:
    install(handle(database), ROLES)
    with database.connect("ckan_write") as writer, handle(database, "dumper").connect("test") as connection:
        create_table(writer, "t", {"a": "text"})
        relid = writer.execute("SELECT 't'::regclass::oid::int").fetchone()[0]
        yield Stage(database, connection, writer, relid)


def test_what_was_exported_for_another_storage_is_not_published(stage: Stage) -> None:
    ((installation,),) = stage.all("SELECT id FROM datastore_dumper.installation")
    lease, state = stage.claim(Leases("a", 20)), stage.state()
    for change in ("SET id = gen_random_uuid()", f"SET id = '{installation}', conflict = 'it was taken over'"):
        stage.all(f"UPDATE datastore_dumper.installation {change} RETURNING id")
        with pytest.raises(ExportError, match="not this database's any more"):
            publish(
                stage.connection, lease, state, [new_file("t/1")], choice=Choice("always", formats=("csv",)),
                installation=installation, retain_seconds=100, duration_seconds=1,
            )  # fmt: skip
    assert stage.all("SELECT FROM datastore_dumper.dump_status") == []
    stage.all("UPDATE datastore_dumper.installation SET conflict = NULL RETURNING id")
    announce(stage.connection, "t/1")
    stage.publish(lease, state, new_file("t/1"))


def new_file(key: str, announced: bool = True) -> NewFile:
    manifest = Manifest(
        1, sha256_of(b"h"), (Segment(None, None, 1, 1, 2, sha256_of(key.encode())),), 0, 0, sha256_of(b"")
    )
    return NewFile("csv", key, "etag", "text/csv", "2.12", manifest, announced)


def test_one_holder_at_a_time(stage: Stage) -> None:
    ours, theirs = Leases("a", 20), Leases("b", 20)
    lease = stage.claim(ours)
    assert theirs.claim(stage.connection, stage.relid) is None
    release(stage.connection, lease, error=None, retry_seconds=0)
    assert stage.claim(theirs).epoch == lease.epoch + 1


def test_claiming_does_not_wait_for_somebody_who_is_claiming(stage: Stage) -> None:
    with stage.database.connect("dumper") as other, other.transaction():
        other.execute("SELECT FROM datastore_dumper.resource FOR UPDATE")
        assert Leases("a", 20).claim(stage.connection, stage.relid) is None


def test_a_lease_that_ran_out_is_taken_over_and_its_holder_publishes_nothing(stage: Stage) -> None:
    frozen, other = Leases("frozen", 20), Leases("other", 20)
    lease = stage.claim(frozen)
    state = stage.state()
    announce(stage.connection, "t/1")
    announce(stage.connection, "t/2")
    stage.connection.execute("UPDATE datastore_dumper.resource SET lease_until = clock_timestamp() - interval '1 s'")
    assert frozen.renew(stage.connection) == [lease]
    with pytest.raises(LeaseLostError):
        lease.require()
    taken = stage.claim(other)
    stage.publish(taken, state, new_file("t/2"))
    with pytest.raises(LeaseLostError):
        stage.publish(lease, state, new_file("t/1"))
    assert published_files(stage.connection, "t")["csv"].key == "t/2"
    assert stage.all("SELECT key FROM datastore_dumper.garbage") == [("t/1",)]


def test_an_expired_lease_publishes_nothing_even_if_nobody_took_it(stage: Stage) -> None:
    lease = stage.claim(Leases("a", 20))
    announce(stage.connection, "t/1")
    stage.connection.execute("UPDATE datastore_dumper.resource SET lease_until = clock_timestamp() - interval '1 s'")
    with pytest.raises(LeaseLostError):
        stage.publish(lease, stage.state(), new_file("t/1"))
    assert published_files(stage.connection, "t") == {}


def test_trust_ends_before_the_lease_does(stage: Stage) -> None:
    lease = stage.claim(Leases("a", 20))
    lease.trusted_until -= 20 * 0.75
    with pytest.raises(LeaseLostError):
        lease.require()
    assert stage.all("SELECT lease_until > clock_timestamp() FROM datastore_dumper.resource") == [(True,)]


def test_publishing_forgets_exactly_what_the_snapshot_showed(stage: Stage) -> None:
    lease = stage.claim(Leases("a", 20))
    stage.writer.execute("INSERT INTO t (a) VALUES ('seen')")
    with stage.database.connect("ckan_write") as slow, slow.transaction():
        slow.execute("INSERT INTO t (a) VALUES ('began before, commits after')")
        state = stage.state()
    stage.writer.execute("INSERT INTO t (a) VALUES ('after')")
    announce(stage.connection, "t/1")
    stage.publish(lease, state, new_file("t/1"))
    assert stage.all("SELECT count(*) FROM datastore_dumper.change") == [(2,)]
    assert stage.all("SELECT key FROM datastore_dumper.garbage") == []
    assert stage.all("SELECT lease_owner, attempts FROM datastore_dumper.resource") == [(None, 0)]


def test_the_former_object_becomes_garbage_and_the_same_one_does_not(stage: Stage) -> None:
    leases = Leases("a", 20)
    for key, announced in (("t/1", True), ("t/2", True), ("t/2", False)):
        stage.write()
        if announced:
            announce(stage.connection, key)
        stage.publish(stage.claim(leases), stage.state(), new_file(key, announced))
    assert stage.all("SELECT key FROM datastore_dumper.garbage") == [("t/1",)]


def test_an_object_that_was_collected_meanwhile_is_not_published(stage: Stage) -> None:
    lease = stage.claim(Leases("a", 20))
    with pytest.raises(ExportError, match="was deleted before it was published"):
        stage.publish(lease, stage.state(), new_file("t/1"))
    assert published_files(stage.connection, "t") == {}
    assert stage.all("SELECT lease_owner FROM datastore_dumper.resource") == [("a",)]


def test_a_dropped_table_is_not_published(stage: Stage) -> None:
    lease = stage.claim(Leases("a", 20))
    state = stage.state()
    announce(stage.connection, "t/1")
    stage.writer.execute("DROP TABLE t")
    reconcile(stage.connection, Selection(("csv",)), compats={"csv": "2.12"}, recipe="", retain_seconds=0)
    with pytest.raises(LeaseLostError):
        stage.publish(lease, state, new_file("t/1"))
    assert published_files(stage.connection, "t") == {}
    assert stage.all("SELECT count(*) FROM datastore_dumper.change") == [(0,)]


def test_a_table_that_lost_its_name_does_not_take_the_file_of_the_next(stage: Stage) -> None:
    """Each table has a lease of its own, and the one that is gone is exported still."""
    with stage.database.connect() as admin:  # as where nobody may create event triggers
        admin.execute("DROP EVENT TRIGGER datastore_dumper_ddl, datastore_dumper_drop")
    lease, state = stage.claim(Leases("a", 20)), stage.state()
    announce(stage.connection, "t/1")
    stage.writer.execute("ALTER TABLE t RENAME TO u")
    create_table(stage.writer, "t", {"a": "text"})
    ((stage.relid,),) = stage.writer.execute("SELECT 't'::regclass::oid::int").fetchall()
    reconcile(stage.connection, Selection(("csv",)), compats={"csv": "2.12"}, recipe="", retain_seconds=0)
    announce(stage.connection, "t/2")
    stage.publish(stage.claim(Leases("b", 20)), stage.state(), new_file("t/2"))
    with pytest.raises(TableChangedError, match="t was dropped or renamed before"):
        stage.publish(lease, state, new_file("t/1"))
    assert published_files(stage.connection, "t")["csv"].key == "t/2"
    assert stage.all("SELECT fresh FROM datastore_dumper.lookup('t', 'csv')") == [(True,)]


def test_files_that_were_not_made_again_are_retired_with_their_changes(stage: Stage) -> None:
    """Another daemon makes another format: its file would look fresh, for the changes are forgotten."""
    leases = Leases("a", 20)
    for key, format_name in (("t/1", "tsv"), ("t/2", "csv")):
        stage.write()
        announce(stage.connection, key)
        stage.publish(stage.claim(leases), stage.state(), replace(new_file(key), format=format_name))
    assert list(published_files(stage.connection, "t")) == ["csv"]
    assert stage.all("SELECT key FROM datastore_dumper.garbage") == [("t/1",)]


def test_a_table_that_was_renamed_leaves_no_file_under_its_former_name(stage: Stage) -> None:
    """Renamed back, it would find a file that looks fresh."""
    leases = Leases("a", 20)
    announce(stage.connection, "t/1")
    stage.publish(stage.claim(leases), stage.state(), new_file("t/1"))
    with stage.database.connect() as admin:  # as where nobody may create event triggers
        admin.execute("DROP EVENT TRIGGER datastore_dumper_ddl")
    stage.writer.execute("ALTER TABLE t RENAME TO u")
    stage.writer.execute("INSERT INTO u (a) VALUES ('x')")
    announce(stage.connection, "u/1")
    stage.publish(stage.claim(leases), stage.state(), new_file("u/1"))
    stage.writer.execute("ALTER TABLE u RENAME TO t")
    assert published_files(stage.connection, "t") == {}
    assert stage.all("SELECT key FROM datastore_dumper.garbage") == [("t/1",)]


def test_the_same_object_under_a_new_name_is_no_garbage(stage: Stage) -> None:
    leases = Leases("a", 20)
    announce(stage.connection, "t/1")
    stage.publish(stage.claim(leases), stage.state(), new_file("t/1"))
    stage.writer.execute("ALTER TABLE t RENAME TO u")
    stage.publish(stage.claim(leases), stage.state(), new_file("t/1", announced=False))
    assert published_files(stage.connection, "u")["csv"].key == "t/1"
    assert stage.all("SELECT key FROM datastore_dumper.garbage") == []


def test_an_unchanged_object_that_was_retired_meanwhile_is_not_published(stage: Stage) -> None:
    leases = Leases("a", 20)
    announce(stage.connection, "t/1")
    stage.publish(stage.claim(leases), stage.state(), new_file("t/1"))
    stage.write()
    lease = stage.claim(leases)
    reconcile(stage.connection, Selection(("tsv",)), compats={"tsv": "2.12"}, recipe="", retain_seconds=0)
    with pytest.raises(ExportError, match="was retired before it was published"):
        stage.publish(lease, stage.state(), new_file("t/1", announced=False))
    assert published_files(stage.connection, "t") == {}


def test_changes_of_a_table_with_a_file_outlive_a_moment_in_another_place(stage: Stage) -> None:
    """Reconciling takes several statements, and the table may be elsewhere for the time of one of them."""
    announce(stage.connection, "t/1")
    stage.publish(stage.claim(Leases("a", 20)), stage.state(), new_file("t/1"))
    stage.writer.execute("INSERT INTO t (a) VALUES ('x')")
    stage.writer.execute("ALTER TABLE t RENAME TO _t")
    stage.connection.execute(query("forget_orphan_changes"))
    stage.writer.execute("ALTER TABLE _t RENAME TO t")
    assert stage.all("SELECT fresh FROM datastore_dumper.lookup('t', 'csv')") == [(False,)]
    stage.writer.execute("DROP TABLE t")
    reconcile(stage.connection, Selection(("csv",)), compats={"csv": "2.12"}, recipe="", retain_seconds=0)
    assert stage.all("SELECT count(*) FROM datastore_dumper.change") == [(0,)]
