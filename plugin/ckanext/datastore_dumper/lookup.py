"""Asks the DataStore database which file is published for a table, through CKAN's own read engine and read role."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from ckanext.datastore.backend.postgres import get_read_engine

from datastore_dumper.errors import PermissionDeniedError, UnavailableError

# Long past what the function needs; a database too busy for it is asked for the dump itself instead.
TIMEOUT_MS = 5_000

_SET_TIMEOUT = sa.text("SELECT set_config('statement_timeout', :milliseconds, true)")
_LOOKUP = sa.text(
    "SELECT storage_key, etag, bytes, content_type, compat, generated_at, fresh,"
    " CASE WHEN NOT fresh THEN datastore_dumper.seconds_behind(:resource_id, :format) END AS seconds_behind"
    " FROM datastore_dumper.lookup(:resource_id, :format)"
)
_FAILURE = sa.text("SELECT datastore_dumper.failure(:resource_id, :format) AS error")

# Postgres, appendix A: invalid_schema_name and undefined_function; insufficient_privilege.
_NOT_INSTALLED = ("3F000", "42883")
_NOT_GRANTED = "42501"


@dataclass(frozen=True)
class PublishedFile:
    """A row of `datastore_dumper.lookup`, the contract with the daemon."""

    storage_key: str
    etag: str
    """Without quotes."""
    bytes: int
    content_type: str
    compat: str
    """The CKAN release whose bytes these are (see `compat`)."""
    generated_at: datetime
    fresh: bool
    """Whether the file shows the table as it is committed now."""
    seconds_behind: float | None
    """Since when it has not. None: it does, or nobody knows."""


def published_file(resource_id: str, format: str) -> PublishedFile | None:
    """The file published for the table `resource_id`, or None if there is none.

    Raises `PermissionDeniedError` or `UnavailableError`: the grant or our schema is missing, or the database fails.
    """
    row = _ask(_LOOKUP, resource_id, format)
    return PublishedFile(**row) if row is not None else None


def failure(resource_id: str, format: str) -> str | None:
    """Why the table `resource_id` as it is now cannot be had in `format`; None if nothing is known against it.

    Raises as `published_file` does.
    """
    row = _ask(_FAILURE, resource_id, format)
    return row["error"] if row is not None else None


def _ask(question: Any, resource_id: str, format: str) -> Any:
    """The first row, as a mapping."""
    return next(iter(rows(question, resource_id=resource_id, format=format)), None)


def rows(question: Any, engine: Callable[[], Any] = get_read_engine, **parameters: object) -> list[Any]:
    """All rows, as mappings, from one of CKAN's DataStore engines. Its pool gets the connection back in no transaction.

    Raises `PermissionDeniedError` or `UnavailableError`.
    """
    try:
        with engine().begin() as connection:
            connection.execute(_SET_TIMEOUT, {"milliseconds": str(TIMEOUT_MS)})
            return list(connection.execute(question, parameters).mappings())
    except sa.exc.SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        code = getattr(cause, "pgcode", None)
        if code in _NOT_INSTALLED:
            raise UnavailableError(
                "the DataStore database lacks the functions of the schema datastore_dumper",
                hint="run `datastore-dumper install` against it",
            ) from error
        if code == _NOT_GRANTED:
            url, role = ("read_url", "ckan_read") if engine is get_read_engine else ("write_url", "ckan_write")
            raise PermissionDeniedError(
                f"the role of ckan.datastore.{url} may not execute the functions of the schema datastore_dumper",
                hint=f"name it in roles.{role} and run `datastore-dumper install` again",
            ) from error
        reason = str(cause).strip().partition("\n")[0]
        raise UnavailableError(f"the DataStore database cannot say which file is published: {reason}") from error
