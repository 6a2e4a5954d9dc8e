"""Rules that single values must keep and that a type and bounds cannot say. `model` attaches them to settings.

Each takes and returns the value, or raises what `wrong` makes: a message that follows the setting's name.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

from psycopg import ProgrammingError
from pydantic import SecretStr
from pydantic_core import PydanticCustomError

from datastore_dumper.database import splits_password
from datastore_dumper.errors import ConfigError
from datastore_dumper.formats import file_format

# NAMEDATALEN - 1: Postgres cuts longer identifiers short, so a longer name can never be a role's.
_MAX_ROLE_BYTES = 63
_HIGHEST_PORT = 65535

# Enough to know a value again.
_MAX_SHOWN_CHARACTERS = 60

_T = TypeVar("_T")


def wrong(reason: str, *, key: str = "", hint: str = "") -> PydanticCustomError:
    """An error that reads "<setting> <reason>". `key` names the setting below the section that a validator looks at."""
    return PydanticCustomError("setting", "{reason}", {"reason": reason, "key": key, "hint": hint})


def _cut(value: str) -> str:
    return repr(value[:_MAX_SHOWN_CHARACTERS])


def absolute(path: Path) -> Path:
    # A daemon's working directory is not the operator's: a relative path would mean another place for each of them.
    if "\0" in str(path) or not path.is_absolute():
        raise wrong(f"must be an absolute path, not {_cut(str(path))}")
    return path


def dsn(dsn: SecretStr) -> SecretStr:
    try:
        if not dsn.get_secret_value().strip():
            raise wrong("is empty")
        is_split_wrongly = splits_password(dsn.get_secret_value())
    except (ProgrammingError, UnicodeError):
        # libpq's own message quotes parts of the string, so it is neither shown nor chained.
        raise wrong(
            "is not a connection string that libpq understands",
            hint="Write postgresql://user@host/database (in a password @ is %40, / %2F, % %25, space %20) or host=... dbname=...",
        ) from None
    if is_split_wrongly:
        raise wrong(
            "has more than one @, or one after a /",
            hint="In a password, write %40 for @, %2F for /, %25 for % and %20 for a space.",
        )
    return dsn


def role(name: str) -> str:
    if "\0" in name or len(name.encode()) > _MAX_ROLE_BYTES:
        raise wrong(f"must be a role name of at most {_MAX_ROLE_BYTES} bytes")
    return name


def endpoint(endpoint: str) -> str:
    if "://" in endpoint:
        raise wrong("must be host or host:port, without a scheme", hint="Choose http or https with the secure setting.")
    if not re.fullmatch(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?", endpoint):
        raise wrong("must be host or host:port")
    return endpoint


def web_address(address: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#@]+(?:/[^\s?#]*)?", address):
        raise wrong(f"must be a web address like https://portal.example.org, not {_cut(address)}")
    return address


def secret_web_address(address: SecretStr) -> SecretStr:
    if not re.fullmatch(r"https?://[!-.0-;<=>A-~]+(?:/[!-~]*)?", address.get_secret_value()):
        raise wrong("must be a web address like https://heartbeat.example.org/0f3a, with all else percent-encoded")
    return address


def listen_address(address: str) -> str:
    host, _, port = address.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        version: int = ip_address(bare).version
    except ValueError:
        version = 0
    if version != (4 if bare == host else 6) or not re.fullmatch(r"[0-9]{1,5}", port):
        raise wrong(f"must be an IP address and a port, like 127.0.0.1:9878 or [::1]:9878, not {_cut(address)}")
    if not 0 < int(port) <= _HIGHEST_PORT:
        raise wrong(f"must have a port from 1 to {_HIGHEST_PORT}, not {_cut(address)}")
    return address


def bucket(bucket: str) -> str:
    # The relaxed rule that S3 kept for old buckets; the server has the last word on the strict one.
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]", bucket):
        raise wrong(f"must be a bucket name (3 to 63 letters, digits, dots, dashes), not {_cut(bucket)}")
    return bucket


def prefix(prefix: str) -> str:
    parts = prefix.split("/")
    if not all(re.fullmatch(r"[A-Za-z0-9!_.*'()-]+", part) and set(part) != {"."} for part in parts):
        raise wrong(
            f"must be key segments joined by single slashes, like datastore-dumps/portal, not {_cut(prefix)}",
            hint="No slash at either end; letters, digits and ! _ . * ' ( ) - only.",
        )
    return prefix


def unique(values: tuple[_T, ...]) -> tuple[_T, ...]:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise wrong(f"names {value} twice")
    return values


def pattern(pattern: str) -> str:
    if not pattern or not pattern.isprintable() or pattern != pattern.strip():
        raise wrong(f"must be patterns of resource ids, not {_cut(pattern)}", hint="Like stops-* or 2f6d9c1e-????-*.")
    return pattern


def format_rule(rule: str) -> str:
    of, equals, formats = rule.rpartition("=")
    names = formats.split()
    if not equals or not names:
        raise wrong(
            f"must be rules like stops-*=csv parquet, not {_cut(rule)}",
            hint="A pattern, =, formats with spaces between.",
        )
    pattern(of)
    loadable_formats(unique(tuple(names)))
    return rule


def loadable_formats(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        try:
            file_format(name)
        except ConfigError as error:
            raise wrong(f"names {name}: {error.message}", hint=error.hint) from error
    return names
