"""What a CKAN process knows of the site it serves: its storage, its release, who may filter rows. Read once."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Any

import ckan
import ckan.plugins as p
from ckanext.datastore.backend import DatastoreBackend
from ckanext.datastore.backend.postgres import DatastorePostgresqlBackend
from ckanext.datastore.interfaces import IDatastore

from ckanext.datastore_dumper.asking import Demand
from ckanext.datastore_dumper.compat import compat_of
from ckanext.datastore_dumper.settings import Settings, one_line, read
from ckanext.datastore_dumper.watch import StorageWatch
from datastore_dumper.errors import ConfigError, DumperError
from datastore_dumper.storage.base import Storage
from datastore_dumper.storage.from_ckan import PREFIX
from datastore_dumper.storage.settings import open_storage

log = logging.getLogger(__name__)

# What CKAN 2.10 and 2.11 have in place of the setting (WHITELISTED_RESOURCES in ckanext/datastore/logic/action.py).
_PUBLIC_TABLES = ("_table_metadata",)


class Portal:
    """The site, as its configuration and plugins make it. Parts are made when they are first asked for, and kept."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self._warned: set[str] = set()
        self.public_tables: Collection[str] = config.get("ckan.datastore.public_table_search") or _PUBLIC_TABLES
        """Names that CKAN's dump asks no authorization for."""
        # 2.10 has the setting under its older name, and falls back on Authorization (ckan/views/__init__.py).
        token_header = config.get("apitoken_header_name") or config.get("apikey_header_name")
        self.identity_headers: tuple[str, ...] = ("Cookie", "Authorization", *([token_header] if token_header else []))
        """The request headers that say who is asking. One may be there twice."""

    @cached_property
    def demand(self) -> Demand:
        return Demand()

    @cached_property
    def settings(self) -> Settings:
        """Raises `ConfigError` that names the key, each time until it is set right and CKAN restarted."""
        return read(self._config)

    @property
    def extra_formats(self) -> tuple[str, ...]:
        """None while a setting is wrong, which was logged at the start: then all is as if we were not here."""
        try:
            return self.settings.extra_formats
        except ConfigError:
            return ()

    @cached_property
    def storage(self) -> Storage:
        """Raises `ConfigError` as `settings` does."""
        return open_storage(self.settings.storage)

    @cached_property
    def watch(self) -> StorageWatch:
        """Raises `ConfigError` as `settings` does."""
        return StorageWatch(self.storage, self.settings.storage_check_seconds)

    def explain(self, error: DumperError) -> str:
        """One line for the log, in which settings have CKAN's names."""
        try:
            keys = self.settings.storage_keys
        except ConfigError:
            keys = {}
        return one_line(error, keys)

    @cached_property
    def compat(self) -> str:
        return compat_of(ckan.__version__, ms_in_timestamp=bool(self._config.get("ckan.datastore.ms_in_timestamp")))

    @property
    def names_file_by_real_id(self) -> bool:
        """Whether a dump asked for by an alias is saved under the table's own name: so from 2.12 on."""
        return not self.compat.startswith(("2.10", "2.11"))

    @cached_property
    def row_filters(self) -> tuple[str, ...]:
        """Plugins that may show different users different rows of a table, which a file made once cannot.

        They implement IDatastore, whose `datastore_search` adds conditions to the query, or provide or chain the
        `datastore_search` action. Those that the operator vouches for are left out.
        """
        names = {plugin.name for plugin in p.PluginImplementations(IDatastore)}
        names |= {plugin.name for plugin in p.PluginImplementations(p.IActions) if _searches(plugin)}
        return tuple(sorted(names - {"datastore", *self._config[f"{PREFIX}.plugins_without_row_filters"]}))

    @property
    def not_offered(self) -> str | None:
        """Why no file is an answer to anybody on this site, as a part of a sentence; None if files are handed out."""
        if self.row_filters:
            return (
                f"these plugins may show users different rows of a table: {', '.join(self.row_filters)} "
                f"(name those that do not in {PREFIX}.plugins_without_row_filters)"
            )
        # One that is derived from it may search otherwise.
        if type(DatastoreBackend.get_active_backend()) is not DatastorePostgresqlBackend:
            return "the DataStore is not CKAN's own in Postgres"
        return None

    def warn_once(self, about: str, message: str, *args: object) -> None:
        """Log a warning the first time it is `about` this in this process."""
        if about not in self._warned:
            self._warned.add(about)
            log.warning(message, *args)


def _searches(plugin: Any) -> bool:
    return "datastore_search" in plugin.get_actions()
