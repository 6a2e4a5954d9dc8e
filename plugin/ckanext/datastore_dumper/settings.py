"""Turns CKAN's configuration into typed settings. Descriptions and defaults are in config_declaration.yaml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from ckanext.datastore_dumper.compat import ALTERATIONS
from ckanext.datastore_dumper.request import FORMATS
from datastore_dumper.errors import ConfigError, DumperError
from datastore_dumper.storage.settings import DiskSettings, S3Settings

PREFIX = "ckanext.datastore_dumper"

# Signature version 4 lets no presigned link live longer (AWS, "Authenticating Requests: Using Query Parameters").
_LINK_EXPIRY_MAX_SECONDS = 7 * 24 * 3600


@dataclass(frozen=True)
class Settings:
    """What the plugin is told."""

    storage: DiskSettings | S3Settings
    link_expiry_seconds: int
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
    expiry = config[f"{PREFIX}.link_expiry_seconds"]
    if not 1 <= expiry <= _LINK_EXPIRY_MAX_SECONDS:
        raise _wrong("link_expiry_seconds", f"is {expiry}", f"choose from 1 to {_LINK_EXPIRY_MAX_SECONDS} (7 days)")
    filename = _text(config, "filename")
    if filename not in ("id", "name"):
        raise _wrong("filename", f"is {filename!r}", "choose id or name")
    return Settings(
        _storage(config),
        expiry,
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


def one_line(error: DumperError) -> str:
    """Message and hint as one line of the log, with CKAN's names for the storage's settings."""
    line = f"{error.message} ({error.hint})" if error.hint else error.message
    line = " ".join(line.split())
    return line.replace("storage.disk.", f"{PREFIX}.disk.").replace("storage.s3.", f"{PREFIX}.s3.")


def _storage(config: Mapping[str, Any]) -> DiskSettings | S3Settings:
    kind = _text(config, "storage")
    if kind == "disk":
        return _disk(config)
    if kind == "s3":
        return _s3(config)
    raise _wrong(
        "storage", f"is {kind!r}" if kind else "is not set", "set it to disk or s3, whichever the daemon stores to"
    )


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


def _disk(config: Mapping[str, Any]) -> DiskSettings:
    directory = Path(_required(config, "disk.directory", "the directory in the daemon's storage settings"))
    if not directory.is_absolute():
        raise _wrong("disk.directory", f"is the relative path {str(directory)!r}", "give the absolute path")
    return DiskSettings(directory)


def _s3(config: Mapping[str, Any]) -> S3Settings:
    for given, missing in (("access_key", "secret_key"), ("secret_key", "access_key")):
        if _text(config, f"s3.{given}") and not _text(config, f"s3.{missing}"):
            raise _wrong(f"s3.{missing}", f"is not set, but {PREFIX}.s3.{given} is", "set both or neither")
    style = _text(config, "s3.addressing_style")
    if style not in ("auto", "path", "virtual"):
        raise _wrong("s3.addressing_style", f"is {style!r}", "choose auto, path or virtual")
    return S3Settings(
        endpoint=_required(config, "s3.endpoint", "the host of the S3 service, with a port if need be"),
        bucket=_required(config, "s3.bucket", "the bucket in the daemon's storage settings"),
        secure=config[f"{PREFIX}.s3.secure"],
        prefix=_text(config, "s3.prefix"),
        region=_text(config, "s3.region"),
        access_key=_text(config, "s3.access_key"),
        secret_key=_text(config, "s3.secret_key"),
        session_token=_text(config, "s3.session_token"),
        public_endpoint=_text(config, "s3.public_endpoint"),
        public_secure=config[f"{PREFIX}.s3.public_secure"],
        addressing_style=cast(Literal["auto", "path", "virtual"], style),
    )


def _text(config: Mapping[str, Any], key: str) -> str:
    return str(config[f"{PREFIX}.{key}"] or "").strip()


def _required(config: Mapping[str, Any], key: str, meaning: str) -> str:
    value = _text(config, key)
    if not value:
        raise _wrong(key, "is not set", f"set it to {meaning}")
    return value


def _wrong(key: str, what: str, hint: str) -> ConfigError:
    return ConfigError(f"{PREFIX}.{key} {what}", hint=hint)
