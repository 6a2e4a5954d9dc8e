"""Settings from CKAN's own ini file, so that nothing is typed twice: the DataStore's DSN and roles, and the storage.

The file is read as CKAN reads it (ckan/cli/__init__.py): chains of `use = config:`, `%(here)s`, environment variables.
What our own file and the environment say has precedence.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from urllib.parse import unquote, urlsplit

from datastore_dumper.config.fields import VARIABLE_PREFIX, Path
from datastore_dumper.config.given import Given, Layer
from datastore_dumper.errors import ConfigError
from datastore_dumper.storage.from_ckan import PREFIX, STORAGE_KEY, CkanStorage, flag, storage_of, text, whole_number
from datastore_dumper.storage.settings import DiskSettings
from datastore_dumper.words import printable

CKAN_INI_VARIABLE = VARIABLE_PREFIX + "CKAN_INI"
"""Names CKAN's ini, as --ckan-ini does. No setting: where settings come from is not one of them."""

_SECTION = "app:main"
_WRITE_URL = "ckan.datastore.write_url"
_READ_URL = "ckan.datastore.read_url"
# Those of CONFIG_FROM_ENV_VARS in ckan/config/environment.py that concern us.
_VARIABLES = {"CKAN_DATASTORE_WRITE_URL": _WRITE_URL, "CKAN_DATASTORE_READ_URL": _READ_URL}


class _CkanParser(configparser.ConfigParser):
    def optionxform(self, optionstr: str) -> str:
        """CKAN keeps the case of keys."""
        return optionstr


def read_ckan_ini(path: FilePath, environ: Mapping[str, str]) -> Layer:
    """Raises `ConfigError` that names file and key and shows no value that may hold a secret."""
    config = ckan_config(path, environ)
    files = _files_of_keys(path, config, environ)
    name = printable(str(path))
    try:
        values = {at: Given(value, f"{name}, {key}", file=files.get(key)) for at, value, key in _settings(config)}
    except ConfigError as error:
        raise ConfigError(f"{name}: {error.message}", hint=error.hint) from None
    sections = {at[:depth]: name for at in values for depth in range(len(at))}
    return Layer(values, sections)


def name_daemon(values: dict[Path, Given], from_ckan: Layer) -> None:
    """A daemon that connects by CKAN's write URL is CKAN's write role, unless somebody says otherwise."""
    dsn, daemon = ("database", "dsn"), ("roles", "daemon")
    writer = from_ckan.values.get(("roles", "ckan_write"))
    if writer is not None and daemon not in values and values.get(dsn) is from_ckan.values.get(dsn):
        values[daemon] = writer


def ckan_config(path: FilePath, environ: Mapping[str, str]) -> dict[str, str]:
    """The section [app:main] as CKAN sees it. Raises `ConfigError`."""
    parser = _CkanParser({name: _literally(value) for name, value in environ.items() if name.startswith("CKAN_")})
    for file in reversed(_chain(path)):
        here = _literally(str(file.absolute().parent))
        parser.read_dict({configparser.DEFAULTSECT: {"here": here}})
        _read(parser, file)
        for option in parser.options(_SECTION) if parser.has_section(_SECTION) else ():
            raw = parser.get(_SECTION, option, raw=True)
            if "%(here)s" in raw:  # before the next file, elsewhere, is read
                parser.set(_SECTION, option, raw.replace("%(here)s", here))
    if not parser.has_section(_SECTION):
        raise ConfigError(f"{printable(str(path))}: has no section [{_SECTION}]", hint="Name the ini file of CKAN.")
    config = {option: _value(parser, option, path) for option in parser.options(_SECTION)}
    return config | _variables(config, environ)


def _variables(config: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """What environment variables say in place of the file, by CKAN's keys."""
    given: dict[str, str] = {}
    if "envvars" in config.get("ckan.plugins", "").split():  # ckanext-envvars: CKANEXT__A__B is ckanext.a.b
        for name, value in environ.items():
            if name.startswith(("CKAN__", "CKANEXT__")):
                given[name.lower().replace("__", ".")] = value
    for name, key in _VARIABLES.items():
        if environ.get(name):
            given[key] = environ[name]
    return given


def _files_of_keys(path: FilePath, config: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, FilePath]:
    """Which file of the chain says what counts for a key. A key whose value is an environment variable's is in none."""
    files: dict[str, FilePath] = {}
    for file in reversed(_chain(path)):
        parser = _CkanParser()
        _read(parser, file)
        keys = parser.options(_SECTION) if parser.has_section(_SECTION) else list(parser.defaults())
        files.update(dict.fromkeys(keys, file))
    given = _variables(config, environ)
    return {key: file for key, file in files.items() if key not in given}


def _literally(value: str) -> str:
    return value.replace("%", "%%")


def _chain(path: FilePath) -> list[FilePath]:
    """The file, the one that it uses, and so on."""
    chain = [path]
    while True:
        parser = configparser.RawConfigParser()
        _read(parser, chain[-1])
        scheme, _, used = parser.get(_SECTION, "use", fallback="").partition(":")
        if scheme != "config":
            return chain
        following = chain[-1].absolute().parent / used
        if following in chain or len(chain) > 100:
            raise ConfigError(f"{printable(str(path))}: is used by itself", hint="Look at the lines `use = config:`.")
        chain.append(following)


def _read(parser: configparser.RawConfigParser, file: FilePath) -> None:
    name = printable(str(file))
    try:
        with file.open(encoding="utf-8") as stream:
            parser.read_file(stream)
    except FileNotFoundError:
        raise ConfigError(f"{name}: there is no such file", hint="Name the ini file of CKAN.") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"{name}: cannot be read: {reason}") from None
    except configparser.Error as error:
        line = getattr(error, "lineno", None)
        raise ConfigError(
            f"{name}{f', line {line}' if line else ''}: is no ini file", hint="Name the ini file of CKAN."
        ) from None


def _value(parser: configparser.ConfigParser, option: str, path: FilePath) -> str:
    try:
        return parser.get(_SECTION, option)
    except configparser.InterpolationError:
        raise ConfigError(
            f"{printable(str(path))}: {printable(option)} has a % that stands for nothing", hint="Write %% for a %."
        ) from None


def _settings(config: Mapping[str, str]) -> Iterator[tuple[Path, object, str]]:
    """Where in our model, what, and CKAN's key for it."""
    write_url, read_url = text(config, _WRITE_URL), text(config, _READ_URL)
    if write_url:
        # SQLAlchemy's URLs are libpq's but for the driver (postgresql+psycopg2://).
        yield ("database", "dsn"), re.sub(r"^(postgres(?:ql)?)\+\w+://", r"\1://", write_url), _WRITE_URL
    for at, url, key in (("ckan_write", write_url, _WRITE_URL), ("ckan_read", read_url, _READ_URL)):
        role = _role(url)
        if role:
            yield ("roles", at), role, key
    milliseconds = "ckan.datastore.ms_in_timestamp"
    if (given := flag(config, milliseconds, None)) is not None:
        yield ("ckan", "ms_in_timestamp"), given, milliseconds
    alterations = f"{PREFIX}.alterations"
    for word in text(config, alterations).split():
        if word == "labels":
            yield ("export", "header"), "labels", alterations
        if word == "omit_id":
            yield ("export", "omit_id"), True, alterations
    if text(config, STORAGE_KEY):
        yield from _storage(config, storage_of(config))


def _role(url: str) -> str:
    try:
        return unquote(urlsplit(url).username or "")
    except ValueError:  # the DSN itself is refused by the model
        return ""


def _storage(config: Mapping[str, str], found: CkanStorage) -> Iterator[tuple[Path, object, str]]:
    expiry = f"{PREFIX}.link_expiry_seconds"
    seconds = whole_number(config, expiry, found.link_expiry_seconds)
    if seconds is not None:
        yield ("storage", "link_expiry_seconds"), seconds, expiry
    if isinstance(found.settings, DiskSettings):
        yield ("storage", "type"), "disk", STORAGE_KEY
        yield ("storage", "disk", "directory"), found.settings.directory, found.keys["directory"]
        return
    yield ("storage", "type"), "s3", STORAGE_KEY
    for name, key in found.keys.items():
        value = getattr(found.settings, name)
        if value not in ("", None):
            yield ("storage", "s3", name), value, key
