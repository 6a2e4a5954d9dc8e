"""Who may call our actions. Each name in `__all__` is an authorization function of the action with the same name."""

from __future__ import annotations

from typing import Any

import ckan.plugins.toolkit as tk

__all__ = ["datastore_dump_list", "datastore_dump_request", "datastore_dump_status"]


@tk.auth_allow_anonymous_access  # type: ignore[untyped-decorator]
def datastore_dump_status(context: dict[str, Any], data_dict: dict[str, Any]) -> dict[str, Any]:
    """Whoever may search the table, by CKAN's rules and those of plugins around them."""
    return _as("datastore_search", context, data_dict)


def datastore_dump_request(context: dict[str, Any], data_dict: dict[str, Any]) -> dict[str, Any]:
    """Whoever may change the table."""
    return _as("datastore_upsert", context, data_dict)


def datastore_dump_list(context: dict[str, Any], data_dict: dict[str, Any]) -> dict[str, Any]:
    """Sysadmins, whom CKAN does not ask about."""
    return {"success": False, "msg": tk._("Only sysadmins may list all dumps")}


def _as(action: str, context: dict[str, Any], data_dict: dict[str, Any]) -> dict[str, Any]:
    try:
        tk.check_access(action, context, {"resource_id": data_dict["resource_id"]})
    except tk.NotAuthorized as refusal:
        return {"success": False, "msg": str(refusal)}
    return {"success": True}
