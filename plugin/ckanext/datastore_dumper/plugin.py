"""The plugin that CKAN loads: it puts our dump view before CKAN's own, declares our settings, and adds what the modules
`logic`, `cli` and `helpers` offer."""

from __future__ import annotations

import logging
from typing import Any

import ckan.plugins as p
import ckan.plugins.toolkit as tk
from ckan.exceptions import CkanConfigurationException
from ckan.lib.plugins import DefaultTranslation

from ckanext.datastore_dumper.portal import Portal
from ckanext.datastore_dumper.settings import check_plugin_order, one_line, read, route_taken
from datastore_dumper.errors import ConfigError

log = logging.getLogger(__name__)

_ENDPOINT = "datastore_dumper.dump"


@tk.blanket.actions
@tk.blanket.auth_functions
@tk.blanket.blueprints
@tk.blanket.cli
@tk.blanket.config_declarations
@tk.blanket.helpers
@tk.blanket.validators
class DatastoreDumperPlugin(p.SingletonPlugin, DefaultTranslation):  # type: ignore[misc]
    """`datastore_dumper`, to be named before `datastore` in `ckan.plugins`."""

    p.implements(p.IConfigurer)
    p.implements(p.IConfigurable)
    p.implements(p.IMiddleware, inherit=True)
    p.implements(p.ITranslation)

    portal: Portal
    """Set by `configure`, so before the first request."""

    def update_config(self, config: Any) -> None:
        """Raises `CkanConfigurationException` if CKAN would route dumps past us."""
        try:
            # First registered wins, and CKAN registers blueprints in this order (flask_app.py).
            check_plugin_order([plugin.name for plugin in p.PluginImplementations(p.IBlueprint)])
        except ConfigError as error:
            raise CkanConfigurationException(str(error)) from error
        tk.add_template_directory(config, "templates")
        tk.add_resource("assets", "datastore_dumper")

    def configure(self, config: Any) -> None:
        """A storage that is set up wrong does not stop the site: CKAN's own dump answers, and the log says why."""
        self.portal = Portal(config)
        try:
            read(config)
        except ConfigError as error:
            log.error("no ready-made dumps are handed out: %s", one_line(error))  # noqa: TRY400 - no bug, no traceback

    def make_middleware(self, app: Any, config: Any) -> Any:
        """Raises `CkanConfigurationException` if another plugin's view answers our route. All views are there by now."""
        # A plugin before us may have put the application into another, which shows nothing of it.
        routes = getattr(app, "url_map", None)
        if routes is not None:
            endpoint, _ = routes.bind("localhost").match("/datastore/dump/x")
            if endpoint != _ENDPOINT:
                raise CkanConfigurationException(str(route_taken(endpoint, app.view_functions[endpoint].__module__)))
        return app
