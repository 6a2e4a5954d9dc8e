"""A standby that takes over has the storage; the former primary, or any other copy of the files of a cluster, has not."""

from __future__ import annotations

import pytest

from datastore_dumper.errors import ForeignStorageError
from datastore_dumper.install import install
from tests.listener.test_ownership import change, make_seal_due, of_database, settle
from tests.support.daemon import Dumper
from tests.support.datastore import create_table
from tests.support.installation import ROLES, handle
from tests.support.postgres import ScratchDatabase
from tests.support.standby import StandbyServer
from tests.support.waiting import eventually


@pytest.fixture
def database(replicated_database: ScratchDatabase) -> ScratchDatabase:
    """The `dumper` of these tests is one for the primary."""
    return replicated_database


def test_failover(dumper: Dumper, standby_server: StandbyServer) -> None:
    install(handle(dumper.database), ROLES)
    with dumper.database.connect("ckan_write") as writer:
        create_table(writer, "t", {"a": "text"})
        assert dumper.once() == 0
        standby_server.caught_up(writer)
        # It has received the last seal, and not replayed it yet: promotion does that.
        with standby_server.connect(dumper.database.name) as admin:
            admin.execute("SELECT pg_wal_replay_pause()")
            make_seal_due(dumper)
            settle(dumper)
            (position,) = writer.execute("SELECT pg_current_wal_flush_lsn()").fetchone() or (None,)
            eventually(
                lambda: (
                    admin.execute("SELECT pg_last_wal_receive_lsn() >= %s::pg_lsn", [position]).fetchone() == (True,)
                )
            )
        with standby_server.connect(dumper.database.name) as admin:
            assert admin.execute("SELECT pg_promote()").fetchone() == (True,)
    promoted = of_database(dumper, ScratchDatabase(standby_server, dumper.database.name))
    change(promoted)
    assert promoted.once() == 0
    assert promoted.is_fresh()

    # The former primary still runs, and so does a daemon for it: two databases that are the same by all that can be asked.
    refused: list[tuple[Dumper, str]] = []
    for _ in range(2):
        for each in (promoted, dumper):
            make_seal_due(each)
            try:
                settle(each)
            except ForeignStorageError as error:
                refused.append((each, error.message))
    ((loser, message),) = refused
    assert loser is dumper
    assert "another state of this" in message
    assert not dumper.is_fresh()
    assert promoted.is_fresh()
