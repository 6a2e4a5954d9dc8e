"""CKAN's read role: what is set for it shows in the text of values, so exports take it over, and files know it."""

from __future__ import annotations

from datastore_dumper.database import Connection
from datastore_dumper.errors import ConfigError
from datastore_dumper.sqlfiles import query


def require_reader(connection: Connection, role: str | None) -> None:
    """Raise `ConfigError` if there is no such role: values would be written as nobody but us would see them."""
    if role is not None and connection.execute(query("role_exists"), {"role": role}).fetchone() != (True,):
        raise ConfigError(
            f'there is no role "{role}" (roles.ckan_read)',
            hint="Set roles.ckan_read to the role in ckan.datastore.read_url.",
        )


def reader_settings(primary: Connection, role: str | None) -> tuple[tuple[str, str], ...]:
    """Names and values of all settings that change the text of values, as CKAN's read role has them. None: nobody knows the
    role, so what is set for it is not in them."""
    return tuple(primary.execute(query("reader_settings"), {"role": role}, prepare=True).fetchall())


def recipe_of(settings: tuple[tuple[str, str], ...]) -> str:
    """What the bytes of a file depend on beside table, format and compat, as its manifest has it."""
    return repr(settings)
