"""Writers, one for each table: whatever CKAN, its loaders and an administrator do to a table, sealed in the ledger."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psycopg
from psycopg import sql

from datastore_dumper.errors import DumperError
from tests.support.datastore import create_table
from tests.support.postgres import Connection
from tests.torture.arena import Arena

COLUMNS = {"a": "text", "n": "bigint"}
_LOCK_TIMEOUT = "20s"  # more than any wait that we allow ourselves to cause


class _RolledBackError(Exception):
    """On purpose."""


class Writer:
    """Changes one table again and again until told to stop, with pauses. `size` is about how many rows it has."""

    def __init__(self, arena: Arena, name: str, size: int, seed: int, pause_seconds: float) -> None:
        self.name = name
        self.commits: Counter[str] = Counter()
        self.problems: list[str] = []
        self._arena = arena
        self._size = size
        self._dice = random.Random(f"{seed} {name}")
        self._pause_seconds = pause_seconds
        self._table = sql.Identifier(name)
        self._columns = 0
        self._kinds: dict[str, tuple[int, Callable[[Connection], None]]] = {
            "insert": (20, self._insert),
            "update": (20, self._update),
            "delete": (8, self._delete),
            "many statements": (5, self._many_statements),
            "savepoint": (5, self._savepoint),
            "roll back": (4, self._roll_back),
            "reload": (4, self._reload),
            "copy freeze": (3, self._copy_freeze),
            "add column": (3, self._add_column),
            "rename column": (2, self._rename_column),
            "drop column": (3, self._drop_column),
            "comment": (2, self._comment),
            "recreate": (2, self._recreate),
            "mute": (2, self._mute),
            "rewrite": (1, self._rewrite),
        }

    def prepare(self) -> None:
        """Make the table and fill it."""
        with self._arena.connect("ckan_write") as connection, connection.transaction():
            self._create(connection)
            self._fill(connection, self._size)
            self._seal(connection)

    def run(self, stop: threading.Event) -> None:
        """Until `stop`. What Postgres refuses because it crashed or because of a lock is tried again, as something else."""
        while not stop.is_set():
            try:
                with self._arena.connect("ckan_write") as connection:
                    connection.execute(sql.SQL("SET lock_timeout = {}").format(_LOCK_TIMEOUT))
                    while not stop.wait(self._dice.uniform(0, 2 * self._pause_seconds)):
                        self._write(connection)
            except psycopg.OperationalError as error:
                if error.sqlstate == "55P03":
                    self.problems.append(f"{self.name} waited {_LOCK_TIMEOUT} for a lock")
                stop.wait(0.2)
            except (psycopg.Error, DumperError) as error:
                self.problems.append(f"{self.name}: {error}")

    def _write(self, connection: Connection) -> None:
        kind = self._dice.choices(list(self._kinds), [weight for weight, _ in self._kinds.values()])[0]
        change = self._kinds[kind][1]
        with suppress(_RolledBackError):
            if kind == "rewrite":
                change(connection)
            else:
                with connection.transaction():
                    change(connection)
                    self._seal(connection)
                    if self._dice.random() < 0.1:
                        threading.Event().wait(self._dice.uniform(0, 0.5))  # a transaction that stays open for a while
            self.commits[kind] += 1

    def _seal(self, connection: Connection) -> None:
        connection.execute("SELECT torture.seal(%s)", [self.name])

    def _create(self, connection: Connection) -> None:
        create_table(connection, self.name, COLUMNS)
        if self._size > 1000:
            self._run(connection, "ALTER TABLE {t} DISABLE TRIGGER zfulltext")
        connection.execute("SELECT torture.watch(%s)", [self.name])
        self._after_version(connection)
        self._columns = 0

    def _after_version(self, connection: Connection) -> None:
        """Leave the _id of the version's row alone."""
        connection.execute("SELECT setval(pg_get_serial_sequence(quote_ident(%s), '_id'), 1)", [self.name])

    def _run(self, connection: Connection, statement: str, *parameters: object) -> None:
        connection.execute(sql.SQL(statement).format(t=self._table), parameters or None)  # type: ignore[arg-type]

    def _fill(self, connection: Connection, rows: int) -> None:
        text = self._word() * (1 + self._dice.randrange(4))
        self._run(
            connection,
            "INSERT INTO {t} (a, n) SELECT %s || i, nullif(i %% 7, 0) FROM generate_series(1, %s) i",
            text,
            rows,
        )

    def _word(self) -> str:
        return self._dice.choice(["x", 'quo"te', "new\nline", "c,omma", "日本🙂", "plain text "])

    def _some(self) -> int:
        """An _id of about the middle, the end or nowhere."""
        return self._dice.randint(2, self._size * 2 + 10)

    def _insert(self, connection: Connection) -> None:
        self._fill(connection, self._dice.choice([1, 1, 3, max(self._size // 20, 1)]))

    def _update(self, connection: Connection) -> None:
        at = self._some()
        self._run(connection, "UPDATE {t} SET a = %s, n = n + 1 WHERE _id BETWEEN %s AND %s", self._word(), at, at + 20)

    def _delete(self, connection: Connection) -> None:
        at = self._some()
        self._run(connection, "DELETE FROM {t} WHERE _id BETWEEN %s AND %s", at, at + self._size // 10)

    def _many_statements(self, connection: Connection) -> None:
        for _ in range(self._dice.randint(2, 30)):
            self._dice.choice([self._insert, self._update, self._delete])(connection)

    def _savepoint(self, connection: Connection) -> None:
        self._insert(connection)
        with suppress(_RolledBackError), connection.transaction():
            self._update(connection)
            self._delete(connection)
            if self._dice.random() < 0.6:
                raise _RolledBackError
        self._update(connection)

    def _roll_back(self, connection: Connection) -> None:
        self._many_statements(connection)
        raise _RolledBackError

    def _reload(self, connection: Connection) -> None:
        self._run(connection, "TRUNCATE {t} RESTART IDENTITY")
        self._after_version(connection)
        self._fill(connection, self._size)

    def _copy_freeze(self, connection: Connection) -> None:
        self._run(connection, "TRUNCATE {t}")
        first = self._size * 2
        statement = sql.SQL("COPY {} (_id, a, n) FROM STDIN (FREEZE)").format(self._table)
        with connection.cursor().copy(statement) as copy:
            for number in range(self._dice.randint(0, self._size)):
                copy.write_row((first + number, f"frozen {number}", number))
        self._run(connection, "SELECT setval(pg_get_serial_sequence(quote_ident(%s), '_id'), %s)", self.name, first * 2)

    def _add_column(self, connection: Connection) -> None:
        self._columns += 1
        default = self._dice.choice(
            ["", " DEFAULT 'd'", " DEFAULT clock_timestamp()"]
        )  # the last one rewrites the table
        self._run(connection, f"ALTER TABLE {{t}} ADD COLUMN c{self._columns} text{default}")

    def _extra_column(self, connection: Connection) -> str | None:
        row = connection.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = quote_ident(%s)::regclass AND attnum > 0 "
            "AND NOT attisdropped AND attname ~ '^[cr][0-9]' ORDER BY attnum LIMIT 1",
            [self.name],
        ).fetchone()
        return row[0] if row else None

    def _rename_column(self, connection: Connection) -> None:
        if (column := self._extra_column(connection)) is not None:
            self._columns += 1
            self._run(connection, f"ALTER TABLE {{t}} RENAME COLUMN {column} TO r{self._columns}")

    def _drop_column(self, connection: Connection) -> None:
        if (column := self._extra_column(connection)) is not None:
            self._run(connection, f"ALTER TABLE {{t}} DROP COLUMN {column}")

    def _comment(self, connection: Connection) -> None:
        self._run(connection, f"COMMENT ON COLUMN {{t}}.a IS ' {{{{\"_info\": {self._dice.randrange(9)}}}}}'")

    def _recreate(self, connection: Connection) -> None:
        self._run(connection, "DROP TABLE {t}")
        self._create(connection)
        self._fill(connection, self._dice.randint(0, self._size))

    def _mute(self, connection: Connection) -> None:
        """A change that our trigger does not see."""
        with self._without_trigger(connection, "datastore_dumper_update"):
            self._update(connection)

    @contextmanager
    def _without_trigger(self, connection: Connection, trigger: str) -> Iterator[None]:
        known = connection.execute(
            "SELECT 1 FROM pg_trigger WHERE tgrelid = quote_ident(%s)::regclass AND tgname = %s", [self.name, trigger]
        ).fetchone()
        if known:
            self._run(connection, f"ALTER TABLE {{t}} DISABLE TRIGGER {trigger}")
        yield
        if known:
            self._run(connection, f"ALTER TABLE {{t}} ENABLE ALWAYS TRIGGER {trigger}")

    def _rewrite(self, connection: Connection) -> None:
        self._run(connection, "VACUUM FULL {t}")


def make_writers(arena: Arena, seed: int) -> list[Writer]:
    """Many small tables, some of several segments, a large one. Names of any kind."""
    writers = [Writer(arena, f"small {number}", 20, seed, 0.25) for number in range(10)]
    writers += [Writer(arena, f'medium"{number}', 5_000, seed, 0.8) for number in range(3)]
    writers.append(Writer(arena, "large", 60_000, seed, 2.5))
    return writers
