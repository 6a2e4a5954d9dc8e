"""What our templates ask. Each name in `__all__` is a helper."""

from __future__ import annotations

import logging
from typing import Any

import ckan.plugins as p
import ckan.plugins.toolkit as tk
from ckan import model

from ckanext.datastore_dumper.downloads import Offer
from ckanext.datastore_dumper.menu import download_menu
from ckanext.datastore_dumper.portal import Portal
from datastore_dumper.errors import DumperError

__all__ = ["datastore_dumper_downloads", "datastore_dumper_states"]

log = logging.getLogger(__name__)


def datastore_dumper_downloads(resource: dict[str, Any]) -> list[Offer] | None:
    """What the download menu of a resource offers, or None: then CKAN's own menu is the right one.

    Never raises: a page does not fail because of us.
    """
    portal: Portal = p.get_plugin("datastore_dumper").portal
    try:
        # The action, and not its authorization alone: as with a download, what plugins put around it has its say.
        tk.get_action("datastore_search")({}, {"resource_id": resource["id"], "limit": 0, "include_total": False})
        return download_menu(resource["id"], portal)
    except (tk.NotAuthorized, tk.ObjectNotFound, tk.ValidationError):
        return None
    except DumperError as error:
        log.warning("resource %s has CKAN's own download menu: %s", resource["id"], portal.explain(error))
    except Exception:
        model.Session.rollback()  # the page goes on with it
        log.exception("resource %s has CKAN's own download menu", resource["id"])
    return None


def datastore_dumper_states() -> dict[str, str]:
    """What the states of a resource's dumps are called."""
    return {
        "failing": tk._("Failing"),
        "exporting": tk._("Being made"),
        "waiting": tk._("Out of date"),
        "ready": tk._("Ready"),
        "unkept": tk._("Not kept"),
    }
