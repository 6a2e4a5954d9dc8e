"""Looks at what there is to do: one query, no decision (`due` decides)."""

from __future__ import annotations

from datetime import datetime

from datastore_dumper.database import Connection
from datastore_dumper.due import Pending
from datastore_dumper.sqlfiles import query


def look(connection: Connection) -> tuple[list[Pending], datetime | None]:
    """Every table with unpublished changes or a request, and the database's clock (None if nothing is pending)."""
    rows = connection.execute(query("pending")).fetchall()
    pending = [Pending(*row[:-1]) for row in rows]
    return pending, (rows[0][-1] if rows else None)
