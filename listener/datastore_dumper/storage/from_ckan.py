"""Where a CKAN's configuration says that the files are. The plugin asks with CKAN's `config`, the daemon with the ini.

`ckanext.datastore_dumper.storage` is `disk` or `s3`, with keys of our own; `s3filestore`, with those of both forks of
ckanext-s3filestore; or `ckan.files:<name>`, a storage of CKAN 2.12 (`ckan:fs`, `ckan:s3`). Nothing is ever public: the
acl of s3filestore, `public-read` by default, is not looked at. Values may be text or what CKAN has converted them to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlsplit

from datastore_dumper.errors import ConfigError
from datastore_dumper.storage.settings import DiskSettings, S3Settings

PREFIX = "ckanext.datastore_dumper"
STORAGE_KEY = f"{PREFIX}.storage"
FILESTORE = "ckanext.s3filestore"
FILES = "ckan.files.storage"

# The folder of the dumps in a place that has other files, and what keys begin with in a bucket.
FOLDER = "datastore-dumps"
_AWS = "s3.amazonaws.com"
_TRUE = ("true", "yes", "t", "y", "1", "on")
_FALSE = ("false", "no", "f", "n", "0", "off")


@dataclass(frozen=True)
class CkanStorage:
    """A storage as CKAN is told of it."""

    settings: DiskSettings | S3Settings
    keys: Mapping[str, str]
    """CKAN's key for each field of `settings` that comes from one."""
    link_base: str = ""
    """What takes the place of scheme and host in a signed link: a proxy that passes requests on with the true Host."""
    link_expiry_seconds: int | None = None
    """How long links of that extension live, if it is told."""


def storage_of(config: Mapping[str, Any]) -> CkanStorage:
    """Raises `ConfigError` that names CKAN's key and shows no secret. Touches neither disk nor network."""
    kind = text(config, STORAGE_KEY)
    if kind == "disk":
        return _disk(config)
    if kind == "s3":
        return _s3(config)
    if kind == "s3filestore":
        return _s3filestore(config)
    if kind.startswith("ckan.files:"):
        return _files(config, kind.partition(":")[2].strip())
    raise ConfigError(
        f"{STORAGE_KEY} is {kind!r}" if kind else f"{STORAGE_KEY} is not set",
        hint="Set it to disk, s3, s3filestore or ckan.files:<name>, whichever the daemon stores to.",
    )


def text(config: Mapping[str, Any], key: str, default: str = "") -> str:
    """The value without blanks around it; the default for one that is empty or not there."""
    value = config.get(key)
    return (str(value).strip() if value is not None else "") or default


def flag(config: Mapping[str, Any], key: str, default: bool | None) -> bool | None:
    """As CKAN's `boolean_validator`, which takes words that it does not know for false: those are refused here."""
    value = text(config, key).lower()
    if not value:
        return default
    if value not in (*_TRUE, *_FALSE):
        raise ConfigError(f"{key} is {value!r}", hint="Set it to true or false.")
    return value in _TRUE


def whole_number(config: Mapping[str, Any], key: str, default: int | None) -> int | None:
    value = text(config, key)
    if not value:
        return default
    if not (value.isascii() and value.isdecimal() and len(value) <= 18):
        raise ConfigError(f"{key} is {value!r}", hint="Set it to a whole number.")
    return int(value)


def _disk(config: Mapping[str, Any]) -> CkanStorage:
    key = f"{PREFIX}.disk.directory"
    return CkanStorage(DiskSettings(_directory(config, key)), {"directory": key})


def _s3(config: Mapping[str, Any]) -> CkanStorage:
    names = (
        *("endpoint", "secure", "public_endpoint", "public_secure", "bucket", "prefix", "region"),
        *("access_key", "secret_key", "session_token", "role", "addressing_style"),
    )
    keys = {name: f"{PREFIX}.s3.{name}" for name in names}
    settings = S3Settings(
        endpoint=text(config, keys["endpoint"], _AWS),
        bucket=_required(config, keys["bucket"], "the bucket in the daemon's storage settings"),
        secure=bool(flag(config, keys["secure"], True)),
        prefix=text(config, keys["prefix"], FOLDER),
        region=text(config, keys["region"]),
        access_key=text(config, keys["access_key"]),
        secret_key=text(config, keys["secret_key"]),
        session_token=text(config, keys["session_token"]),
        role=text(config, keys["role"]),
        addressing_style=_style(config, keys["addressing_style"]),
    )
    _both_or_neither(settings, keys)
    return CkanStorage(_with_public_endpoint(config, settings), keys)


def _s3filestore(config: Mapping[str, Any]) -> CkanStorage:
    """Key names of keitaroinc/ckanext-s3filestore and qld-gov-au/ckanext-s3filestore, which share them."""
    keys = {
        "endpoint": f"{FILESTORE}.host_name",
        "secure": f"{FILESTORE}.host_name",
        "public_endpoint": f"{PREFIX}.s3.public_endpoint",
        "public_secure": f"{PREFIX}.s3.public_secure",
        "bucket": f"{FILESTORE}.aws_bucket_name",
        "prefix": f"{FILESTORE}.aws_storage_path",
        "region": f"{FILESTORE}.region_name",
        "access_key": f"{FILESTORE}.aws_access_key_id",
        "secret_key": f"{FILESTORE}.aws_secret_access_key",
        "role": f"{FILESTORE}.aws_role",
        "addressing_style": f"{FILESTORE}.addressing_style",
    }
    endpoint, secure = _endpoint(config, keys["endpoint"])
    by_machine = flag(config, f"{FILESTORE}.aws_use_ami_role", False)
    settings = S3Settings(
        endpoint=endpoint,
        bucket=_required(config, keys["bucket"], "the bucket that s3filestore uses"),
        secure=secure,
        prefix=_below(text(config, keys["prefix"]), text(config, f"{PREFIX}.s3.prefix", FOLDER)),
        region=text(config, keys["region"]),
        access_key="" if by_machine else text(config, keys["access_key"]),
        secret_key="" if by_machine else text(config, keys["secret_key"]),
        role=text(config, keys["role"]),
        addressing_style=_style(config, keys["addressing_style"]),
    )
    _both_or_neither(settings, keys)
    proxy = text(config, f"{FILESTORE}.download_proxy").rstrip("/")
    if proxy and urlsplit(proxy).scheme not in ("http", "https"):
        raise ConfigError(
            f"{FILESTORE}.download_proxy is {proxy!r}", hint="Set it to a URL, https://files.example.org."
        )
    settings = _with_public_endpoint(config, settings)
    return CkanStorage(
        settings,
        keys,
        # A public endpoint of our own settings is signed for, so nothing has to be put in its place.
        link_base="" if settings.public_endpoint else proxy,
        link_expiry_seconds=whole_number(config, f"{FILESTORE}.signed_url_expiry", None),
    )


def _files(config: Mapping[str, Any], name: str) -> CkanStorage:
    """`ckan:s3` is ckanext-file-keeper-cloud's."""
    storage = f"{FILES}.{name}"
    kind = text(config, f"{storage}.type")
    if not kind:
        raise ConfigError(
            f"{STORAGE_KEY} names the storage {name!r}, but {storage}.type is not set",
            hint=f"Set {storage}.type and what belongs to it; CKAN has such storages from 2.12 on.",
        )
    if flag(config, f"{storage}.public", False):
        raise ConfigError(
            f"{storage}.public is true, so everybody may read what is stored there",
            hint=f"Name a storage in {STORAGE_KEY} that is not public.",
        )
    if kind == "ckan:fs":
        key = f"{storage}.path"
        return CkanStorage(DiskSettings(_directory(config, key) / FOLDER), {"directory": key})
    if kind != "ckan:s3":
        raise ConfigError(
            f"{storage}.type is {kind!r}, where dumps cannot be kept",
            hint="Name a storage of the type ckan:fs or ckan:s3, or use disk or s3 with keys of their own.",
        )
    keys = {
        "endpoint": f"{storage}.endpoint",
        "secure": f"{storage}.endpoint",
        "public_endpoint": f"{PREFIX}.s3.public_endpoint",
        "public_secure": f"{PREFIX}.s3.public_secure",
        "bucket": f"{storage}.bucket",
        "prefix": f"{storage}.path",
        "region": f"{storage}.region",
        "access_key": f"{storage}.key",
        "secret_key": f"{storage}.secret",
    }
    endpoint, secure = _endpoint(config, keys["endpoint"])
    settings = S3Settings(
        endpoint=endpoint,
        bucket=_required(config, keys["bucket"], "the bucket of that storage"),
        secure=secure,
        prefix=_below(text(config, keys["prefix"]), text(config, f"{PREFIX}.s3.prefix", FOLDER)),
        region=text(config, keys["region"]),
        access_key=text(config, keys["access_key"]),
        secret_key=text(config, keys["secret_key"]),
    )
    _both_or_neither(settings, keys)
    return CkanStorage(_with_public_endpoint(config, settings), keys)


def _with_public_endpoint(config: Mapping[str, Any], settings: S3Settings) -> S3Settings:
    """The other extensions have no such thing, so these keys count beside theirs."""
    return replace(
        settings,
        public_endpoint=text(config, f"{PREFIX}.s3.public_endpoint"),
        public_secure=flag(config, f"{PREFIX}.s3.public_secure", None),
    )


def _directory(config: Mapping[str, Any], key: str) -> Path:
    directory = Path(_required(config, key, "the directory that the daemon writes to"))
    if not directory.is_absolute():
        raise ConfigError(f"{key} is the relative path {str(directory)!r}", hint="Give the absolute path.")
    return directory


def _endpoint(config: Mapping[str, Any], key: str) -> tuple[str, bool]:
    """boto3's `endpoint_url`: a URL. Not set: AWS."""
    value = text(config, key)
    if not value:
        return _AWS, True
    url = urlsplit(value if "://" in value else f"https://{value}")
    if url.scheme not in ("http", "https") or not url.netloc or url.path.strip("/") or url.query or "@" in url.netloc:
        raise ConfigError(
            f"{key} is not a URL of a host alone", hint="Set it to something like https://s3.example.org."
        )
    return url.netloc, url.scheme == "https"


def _style(config: Mapping[str, Any], key: str) -> Literal["auto", "path", "virtual"]:
    style = text(config, key, "auto")
    if style not in ("auto", "path", "virtual"):
        raise ConfigError(f"{key} is {style!r}", hint="Choose auto, path or virtual.")
    return cast(Literal["auto", "path", "virtual"], style)


def _below(path: str, folder: str) -> str:
    return "/".join(part for part in (path.strip("/"), folder.strip("/")) if part)


def _both_or_neither(settings: S3Settings, keys: Mapping[str, str]) -> None:
    for given, missing in (("access_key", "secret_key"), ("secret_key", "access_key")):
        if getattr(settings, given) and not getattr(settings, missing):
            raise ConfigError(f"{keys[missing]} is not set, but {keys[given]} is", hint="Set both or neither.")


def _required(config: Mapping[str, Any], key: str, meaning: str) -> str:
    value = text(config, key)
    if not value:
        raise ConfigError(f"{key} is not set", hint=f"Set it to {meaning}.")
    return value
