"""Turns CKAN's configuration into typed settings. Descriptions and defaults are in config_declaration.yaml; where the
files are, `datastore_dumper.storage.from_ckan` finds out, which the daemon shares."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ckanext.datastore_dumper.compat import ALTERATIONS
from ckanext.datastore_dumper.request import FORMATS
from datastore_dumper.errors import ConfigError, DumperError
from datastore_dumper.storage.from_ckan import PREFIX, CkanStorage, flag, storage_of, text, whole_number
from datastore_dumper.storage.settings import DiskSettings, S3Settings

Delivery = Literal["redirect", "file", "accel", "proxy"]

_DEFAULT_LINK_EXPIRY_SECONDS = 300
# Signature version 4 lets no presigned link live longer (AWS, "Authenticating Requests: Using Query Parameters").
_LINK_EXPIRY_MAX_SECONDS = 7 * 24 * 3600
# The ways to hand out what is in a directory and in a bucket; the first one unless another is chosen.
_DELIVERIES: dict[str, tuple[Delivery, ...]] = {"disk": ("file", "accel"), "s3": ("redirect", "accel", "proxy")}
# CKAN asks S3 seldom and while a user waits: it gives up sooner than the daemon.
_CONNECT_TIMEOUT_SECONDS = 2
_READ_TIMEOUT_SECONDS = 10
_RETRIES = 1


@dataclass(frozen=True)
class Settings:
    """What the plugin is told."""

    storage: DiskSettings | S3Settings
    storage_keys: Mapping[str, str]
    """CKAN's keys for the fields of `storage`."""
    delivery: Delivery
    accel_location: str
    """The internal location of nginx, with a slash at both ends."""
    proxy_with_authorization: bool
    """Whether CKAN itself sends the file to those who come with an Authorization header, instead of a link."""
    link_base: str
    """What takes the place of scheme and host in links, if anything."""
    link_expiry_seconds: int
    public_cache_seconds: int
    """How long shared caches may keep what everybody may have; 0: not at all."""
    max_staleness_seconds: int
    """How far behind its table a file may be."""
    storage_check_seconds: int
    """How long a file that was found in the bucket is not looked for again; 0: never looked for."""
    extra_formats: tuple[str, ...]
    """Formats that CKAN does not know and the daemon makes."""
    alterations: tuple[str, ...]
    """How files for plain requests differ from CKAN's (`compat.ALTERATIONS`). Mostly empty."""
    readable_filenames: bool
    """Downloads are named by resource and date, not by the id."""


def read(config: Mapping[str, Any]) -> Settings:
    """The settings in CKAN's configuration, whose values are converted and defaulted as declared.

    Raises `ConfigError` that names the key. What only the storage can tell, `open_storage` does.
    """
    found = storage_of(config)
    expiry = _link_expiry(config, found)
    public_cache = _seconds(config, "public_cache_seconds", 0)
    if public_cache >= expiry:
        raise _wrong(
            "public_cache_seconds",
            f"is {public_cache}, but links expire after {expiry} s",
            "choose less than ckanext.datastore_dumper.link_expiry_seconds",
        )
    filename = text(config, f"{PREFIX}.filename", "id")
    if filename not in ("id", "name"):
        raise _wrong("filename", f"is {filename!r}", "choose id or name")
    return Settings(
        storage=_for_ckan(found.settings),
        storage_keys=found.keys,
        delivery=_delivery(config, found.settings),
        accel_location=_accel_location(config),
        proxy_with_authorization=bool(flag(config, f"{PREFIX}.proxy_with_authorization", True)),
        link_base=found.link_base,
        link_expiry_seconds=expiry,
        public_cache_seconds=public_cache,
        max_staleness_seconds=_seconds(config, "max_staleness_seconds", 0),
        storage_check_seconds=_seconds(config, "storage_check_seconds", 60),
        extra_formats=_extra_formats(config),
        alterations=_alterations(config),
        readable_filenames=filename == "name",
    )


def check_plugin_order(names: Sequence[str]) -> None:
    """Raises `ConfigError` unless the plugin's routes, `names` being plugins in order, come before the DataStore's."""
    if "datastore" not in names:
        raise ConfigError(
            "ckan.plugins has datastore_dumper but not datastore, whose dumps it hands out",
            hint="Add datastore after datastore_dumper, or remove datastore_dumper.",
        )
    if names.index("datastore_dumper") > names.index("datastore"):
        raise ConfigError(
            "ckan.plugins has datastore_dumper after datastore, so CKAN would never ask it for a dump",
            hint="Put datastore_dumper before datastore.",
        )


def route_taken(endpoint: str, module: str) -> ConfigError:
    """The error of a site where another view, of the Python module `module`, answers what we are asked for."""
    return ConfigError(
        f"/datastore/dump/... is answered by {endpoint} of {module}, so CKAN would never ask datastore_dumper for a dump",
        hint=f"Put datastore_dumper before the plugin of {module} in ckan.plugins, or remove one of them.",
    )


def one_line(error: DumperError, storage_keys: Mapping[str, str] | None = None) -> str:
    """Message and hint as one line of the log, with CKAN's names for the storage's settings."""
    keys = storage_keys or {}
    line = f"{error.message} ({error.hint})" if error.hint else error.message
    line = " ".join(line.split())
    return re.sub(
        r"\bstorage\.((?:disk|s3)\.([a-z0-9_]+))", lambda match: keys.get(match[2], f"{PREFIX}.{match[1]}"), line
    )


def _for_ckan(storage: DiskSettings | S3Settings) -> DiskSettings | S3Settings:
    if isinstance(storage, DiskSettings):
        return storage
    return replace(
        storage,
        connect_timeout_seconds=_CONNECT_TIMEOUT_SECONDS,
        read_timeout_seconds=_READ_TIMEOUT_SECONDS,
        retries=_RETRIES,
    )


def _link_expiry(config: Mapping[str, Any], found: CkanStorage) -> int:
    expiry = whole_number(config, f"{PREFIX}.link_expiry_seconds", None)
    if expiry is None:
        expiry = found.link_expiry_seconds or _DEFAULT_LINK_EXPIRY_SECONDS
    if not 1 <= expiry <= _LINK_EXPIRY_MAX_SECONDS:
        raise _wrong("link_expiry_seconds", f"is {expiry}", f"choose from 1 to {_LINK_EXPIRY_MAX_SECONDS} (7 days)")
    return expiry


def _delivery(config: Mapping[str, Any], storage: DiskSettings | S3Settings) -> Delivery:
    """The storage's own setting, else the site's, else the first way that the storage has."""
    kind = "disk" if isinstance(storage, DiskSettings) else "s3"
    ways = _DELIVERIES[kind]
    for name in (f"{kind}.delivery", "delivery"):
        chosen = text(config, f"{PREFIX}.{name}")
        if not chosen:
            continue
        if chosen not in ways:
            raise _wrong(name, f"is {chosen!r}", f"choose {', '.join(ways[:-1])} or {ways[-1]} for this storage")
        return chosen
    return ways[0]


def _accel_location(config: Mapping[str, Any]) -> str:
    location = text(config, f"{PREFIX}.accel_location", "/_datastore_dumps/")
    if not re.fullmatch(r"/(?:[A-Za-z0-9_-]+/)+", location):
        raise _wrong("accel_location", f"is {location!r}", "give nginx's location with a slash at both ends, /_dumps/")
    return location


def _seconds(config: Mapping[str, Any], name: str, default: int) -> int:
    return whole_number(config, f"{PREFIX}.{name}", default) or 0


def _extra_formats(config: Mapping[str, Any]) -> tuple[str, ...]:
    names = tuple(config[f"{PREFIX}.extra_formats"])
    for name in names:
        if name.removesuffix("-bom") in FORMATS:
            raise _wrong("extra_formats", f"has {name}, which CKAN has itself", "name only formats that CKAN lacks")
    return names


def _alterations(config: Mapping[str, Any]) -> tuple[str, ...]:
    names = tuple(config[f"{PREFIX}.alterations"])
    for name in names:
        if name not in ALTERATIONS:
            raise _wrong("alterations", f"has {name!r}", f"choose from {' and '.join(ALTERATIONS)}")
    return names


def _wrong(key: str, what: str, hint: str) -> ConfigError:
    return ConfigError(f"{PREFIX}.{key} {what}", hint=hint)
