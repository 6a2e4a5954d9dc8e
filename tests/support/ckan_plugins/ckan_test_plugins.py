"""Small plugins that do what other people's do. CKAN finds them by the metadata beside; `ckan_inside` puts both on its path."""

from __future__ import annotations

import logging
from typing import Any

import ckan.plugins as p
import ckan.plugins.toolkit as tk
from ckanext.datastore.interfaces import IDatastore


@tk.chained_action
@tk.side_effect_free
def datastore_search(original: Any, context: Any, data_dict: Any) -> Any:
    """Refuses the tables in `tests.refused_by_action` to everybody."""
    if data_dict.get("resource_id") in tk.aslist(tk.config.get("tests.refused_by_action")):
        raise tk.NotAuthorized("not this one")
    return original(context, data_dict)


class RefusingAction(p.SingletonPlugin):
    p.implements(p.IActions)

    def get_actions(self) -> dict[str, Any]:
        return {"datastore_search": datastore_search}


@tk.chained_auth_function
@tk.auth_allow_anonymous_access
def may_search(original: Any, context: Any, data_dict: Any) -> Any:
    """Refuses the tables in `tests.refused_by_auth` to everybody but sysadmins, whom CKAN does not ask about."""
    if data_dict.get("resource_id") in tk.aslist(tk.config.get("tests.refused_by_auth")):
        return {"success": False, "msg": "not this one"}
    return original(context, data_dict)


class RefusingAuth(p.SingletonPlugin):
    p.implements(p.IAuthFunctions)

    def get_auth_functions(self) -> dict[str, Any]:
        return {"datastore_search": may_search}


class RowFilter(p.SingletonPlugin):
    """Whoever is not logged in sees the rows whose n is below 3 alone."""

    p.implements(IDatastore, inherit=True)

    def datastore_validate(self, context: Any, data_dict: Any, fields_types: Any) -> Any:
        return data_dict

    def datastore_search(self, context: Any, data_dict: Any, fields_types: Any, query_dict: Any) -> Any:
        if not context.get("user"):
            query_dict["where"].append(('"n" < 3',))
        return query_dict

    def datastore_delete(self, context: Any, data_dict: Any, fields_types: Any, query_dict: Any) -> Any:
        return query_dict


class NoAnonymous(p.SingletonPlugin):
    """What ckanext-noanonaccess does: who is not logged in goes to the login page, but for the endpoints that are named."""

    p.implements(p.IAuthenticator, inherit=True)

    def identify(self) -> Any:
        allowed = ["user.login", *tk.aslist(tk.config.get("ckanext.noanonaccess.allowed_blueprint"))]
        endpoint = ".".join(tk.get_endpoint())
        if tk.current_user.is_anonymous and endpoint not in allowed:
            return tk.redirect_to("user.login", came_from=tk.request.path)
        return None


class DownloadListener(p.SingletonPlugin):
    """Logs each download that is announced, or fails at it where `tests.listener_fails` is set."""

    p.implements(p.ISignal)

    def get_signal_subscriptions(self) -> Any:
        return {tk.signals.ckanext.signal("datastore_dumper:download_answered"): [heard]}


def heard(resource_id: str, *, format: str, bytes: int, delivery: str) -> None:
    if tk.config.get("tests.listener_fails"):
        raise RuntimeError("a listener that fails")
    logging.getLogger("ckanext.tests").info("announced %s %s %s %s", resource_id, format, bytes, delivery)
