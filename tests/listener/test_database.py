"""Connections: what is set for the role or the database does not reach us, and a silent peer is given up."""

from __future__ import annotations

import time

import psycopg
import pytest

from datastore_dumper import database as module
from datastore_dumper.database import explain
from datastore_dumper.errors import UnavailableError
from tests.support.installation import handle
from tests.support.postgres import ScratchDatabase


def test_a_peer_that_does_not_answer_is_given_up(database: ScratchDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SILENCE_SECONDS", 0.5)
    with handle(database).connect("test") as connection:
        before = time.monotonic()
        with pytest.raises(psycopg.OperationalError, match="did not answer") as raised:
            connection.execute("SELECT pg_sleep(20)")
        assert time.monotonic() - before < 10
        assert connection.closed
        assert isinstance(explain(raised.value), UnavailableError)


def test_each_statement_has_the_whole_time(database: ScratchDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SILENCE_SECONDS", 1.5)
    with handle(database).connect("test") as connection:
        for _ in range(3):
            assert connection.execute("SELECT pg_sleep(0.7) IS NULL").fetchone() == (False,)
