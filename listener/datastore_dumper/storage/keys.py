"""Names of objects: which key a dump gets, and which keys a storage takes. Pure; the storage adds its own prefix."""

from __future__ import annotations

import re
import secrets
from datetime import datetime, timezone

from datastore_dumper.errors import StorageError

# S3 allows 1024 bytes (User Guide, "Object key naming guidelines"); 100 are left to the prefix.
MAX_KEY_BYTES = 924
# Never a key, because it starts with a dot.
MARK_NAME = ".datastore-dumper.json"
# NAME_MAX of every file system in use.
MAX_COMPONENT_BYTES = 255

_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_ESCAPED = re.compile(r"(?:[A-Za-z0-9_-]|=[0-9A-F]{2})+\Z")
_EXTENSION = re.compile(r"[a-z0-9]+(?:\.[a-z0-9]+)*\Z")
_VERSION = re.compile(r"[0-9A-Za-z-]+\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def escape(resource_id: str) -> str:
    """The id with each byte of its UTF-8 outside `[A-Za-z0-9_-]` as `=XX`: safe as one part of a path, a URL and a key.

    A resource id is a table's name, so any string of 1 to 63 bytes. CKAN's own ids (UUIDs) stay as they are. The dot
    is escaped too: no result is `.`, `..` or a hidden file. Raises `ValueError` for the empty string.
    """
    if not resource_id:
        raise ValueError("a resource id cannot be empty")
    data = resource_id.encode("utf-8", "surrogateescape")
    return "".join(chr(byte) if byte in _PLAIN else f"={byte:02X}" for byte in data)


def object_key(resource_id: str, version: str, extension: str) -> str:
    """`<escaped id>/<version>/<escaped id>.<extension>`; `version` is from `new_version`, `extension` like `csv.gz`."""
    if not _VERSION.match(version):
        raise ValueError(f"not a version: {version!r}")
    if not _EXTENSION.match(extension):
        raise ValueError(f"not a file extension: {extension!r}")
    name = escape(resource_id)
    return f"{name}/{version}/{name}.{extension}"


def is_object_key(key: str) -> bool:
    """Whether `object_key` can have made it. In a bucket or directory there may be other people's things, or those of
    another installation, whose prefix begins with ours."""
    name, _, rest = key.partition("/")
    version, _, file = rest.partition("/")
    stem, _, extension = file.partition(".")
    return bool(_ESCAPED.match(name) and _VERSION.match(version) and stem == name and _EXTENSION.match(extension))


def new_version(generated_at: datetime) -> str:
    """UTC time to the microsecond, so that versions sort by age, and 128 random bits, so that a key cannot be guessed
    and two daemons never write the same one. Raises `ValueError` for a time without time zone."""
    if generated_at.tzinfo is None:
        raise ValueError("a version needs a time with time zone")
    return f"{generated_at.astimezone(timezone.utc):%Y%m%dT%H%M%S%fZ}-{secrets.token_hex(16)}"


def check_key(key: str) -> str:
    """The key, if any storage takes it; else `StorageError`.

    Relative, parts divided by single slashes, none of them starting with a dot (`.`, `..`, and the names that the
    disk storage gives its temporary files), no control characters or line separators, no backslash.
    """
    reason = _objection(key)
    if reason:
        raise StorageError(f"the storage key {key!r} is not valid: {reason}")
    return key


def is_key(key: str) -> bool:
    """Whether `check_key` would take it."""
    return not _objection(key)


def clean_prefix(prefix: str) -> str:
    """A prefix from the settings as it goes before keys: empty, or valid parts that end with one slash. Raises
    `ValueError` that says what is wrong."""
    stripped = prefix.strip("/")
    if not stripped:
        return ""
    reason = _objection(stripped)
    if reason:
        raise ValueError(reason)
    if len(stripped.encode()) > 1023 - MAX_KEY_BYTES:
        raise ValueError(f"longer than {1023 - MAX_KEY_BYTES} bytes")
    return stripped + "/"


def _objection(key: str) -> str:
    try:
        encoded = key.encode()
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    parts = key.split("/")
    if not all(parts):
        return "it is empty, absolute, or has an empty part"
    if any(part.startswith(".") for part in parts):
        return "a part starts with a dot"
    if _CONTROL.search(key) or "\\" in key:
        return "it has a control character or a backslash"
    if len(encoded) > MAX_KEY_BYTES or any(len(part.encode()) > MAX_COMPONENT_BYTES for part in parts):
        return f"longer than {MAX_KEY_BYTES} bytes, or a part is longer than {MAX_COMPONENT_BYTES}"
    return ""
