"""The committed states, as `ledger.sql` keeps them, and which of them a file shows."""

from __future__ import annotations

import csv
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

from tests.support.postgres import Connection

_SQL = Path(__file__).with_name("ledger.sql")
_BOM = b"\xef\xbb\xbf"
FORMATS = ["csv", "csv-bom"]


@dataclass(frozen=True)
class State:
    """A state of a table: its version, and what tells a mix of states apart."""

    version: int
    rows: int
    checksum: int


def install_ledger(admin: Connection) -> None:
    admin.execute(_SQL.read_text().encode())


def state_of(data: bytes) -> State:
    """The state that a file shows. The version is that of its row with _id 1 (-1: it has none)."""
    reader = csv.reader(io.StringIO(data.removeprefix(_BOM).decode(), newline=""))
    header = next(reader)
    id_at, a_at, n_at = header.index("_id"), header.index("a"), header.index("n")
    version, rows, checksum = -1, 0, 0
    for row in reader:
        rows += 1
        line = f"{row[id_at]}|{row[a_at]}|{row[n_at]}".encode()
        checksum += int(hashlib.md5(line).hexdigest()[:12], 16)
        if row[id_at] == "1":
            version = int(row[n_at])
    return State(version, rows, checksum)


def committed(connection: Connection, name: str, version: int) -> State | None:
    """A table's state of that version, if it was ever committed."""
    row = connection.execute(
        "SELECT version, rows, checksum::text FROM torture.state WHERE name = %s AND version = %s", [name, version]
    ).fetchone()
    return State(row[0], row[1], int(row[2])) if row else None


def newest(connection: Connection, name: str) -> State | None:
    """A table's state as the connection's snapshot shows it."""
    row = connection.execute(
        "SELECT version, rows, checksum::text FROM torture.state WHERE name = %s ORDER BY version DESC LIMIT 1",
        [name],
    ).fetchone()
    return State(row[0], row[1], int(row[2])) if row else None
