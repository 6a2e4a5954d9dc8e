"""Connections: what is set for the role or the database does not reach us, and a silent peer is given up."""

from __future__ import annotations

import time

import psycopg
import pytest

from datastore_dumper import database as module
from datastore_dumper.database import Database, explain, splits_password
from datastore_dumper.errors import ConfigError, UnavailableError
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


@pytest.mark.parametrize(
    "dsn", ["postgresql://u:pa@hunter2@127.0.0.1/d", "postgres://u:pa/hunter2@127.0.0.1/d", "host=pa@hunter2 dbname=d"]
)
def test_the_end_of_a_password_is_no_host(dsn: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Database(dsn).connect("test")
    assert "hunter2" not in str(caught.value)
    assert "%40" in caught.value.hint


@pytest.mark.parametrize(
    "dsn",
    [
        *("postgresql://u:pa%40ss%2F@h/d", "postgresql://u@h/d?application_name=a@b", "postgresql:///d?host=/run"),
        *("postgresql://u:p:q@h,i:5/d", "host=h password=a@b/c@d dbname=d", "dbname=a@b", "host=@abstract"),
    ],
)
def test_passwords_that_are_escaped(dsn: str) -> None:
    assert not splits_password(dsn)


def test_each_statement_has_the_whole_time(database: ScratchDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SILENCE_SECONDS", 4)
    with handle(database).connect("test") as connection:
        for _ in range(5):
            assert connection.execute("SELECT pg_sleep(1) IS NULL").fetchone() == (False,)
