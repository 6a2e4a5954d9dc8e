"""`/ckan-admin/datastore-dumps`: all resources with their dumps, for sysadmins. What it shows and does are our actions."""

from __future__ import annotations

from typing import Any

import ckan.plugins.toolkit as tk
from flask import Blueprint, current_app

from ckanext.datastore_dumper.logic.schema import LIST_LIMIT_DEFAULT

DEFAULT_SORT = "state"
_ARGUMENTS = ("q", "state", "sort", "page")
"""Of the page. A form has them, too, to come back to it."""
_MAX_DIGITS = 100

admin_blueprint = Blueprint("datastore_dumper_admin", __name__, url_prefix="/ckan-admin")


@admin_blueprint.before_request  # type: ignore[untyped-decorator]
def sysadmins_only() -> None:
    """As CKAN's own administration pages do it (ckan/views/admin.py)."""
    try:
        tk.check_access("sysadmin", {"user": tk.g.user, "auth_user_obj": tk.g.userobj})
    except tk.NotAuthorized:
        tk.abort(403, tk._("Need to be system administrator to administer"))


@admin_blueprint.before_request  # type: ignore[untyped-decorator]
def forms_come_from_here() -> None:
    """CKAN 2.10 and 2.11 leave the forms of extensions unprotected, as configured by default
    (`ckan.csrf_protection.ignore_extensions`); 2.12 does from the first request on that came with an API token
    (`csrf.exempt` in ckan/config/middleware/flask_app.py). Asking again costs nothing."""
    if current_app.config["WTF_CSRF_ENABLED"]:
        current_app.extensions["csrf"].protect()


def index() -> Any:
    """The page. Arguments that make no sense are those that there are instead: the first page of all, by state."""
    args = tk.request.args
    typed = args.get("page", "")
    # int() itself refuses thousands of digits.
    number = max(int(typed), 1) if typed.isdecimal() and len(typed) <= _MAX_DIGITS else 1
    asked = {"q": args.get("q", ""), "state": args.get("state", ""), "sort": args.get("sort") or DEFAULT_SORT}
    question = {**asked, "limit": LIST_LIMIT_DEFAULT, "offset": LIST_LIMIT_DEFAULT * (number - 1)}
    try:
        listing = tk.get_action("datastore_dump_list")({}, question)
    except tk.ValidationError as error:
        if "datastore_dumper" not in error.error_dict:
            return tk.redirect_to("datastore_dumper_admin.index")
        return _page(asked, error=error.error_dict["datastore_dumper"][0]), 503
    pages = -(-listing["count"] // LIST_LIMIT_DEFAULT)
    if number > max(pages, 1):  # the resources became fewer
        return tk.redirect_to("datastore_dumper_admin.index", **asked, page=pages)
    return _page(asked, listing=listing, page=number, pages=pages)


def request_dump() -> Any:
    """Ask for an export, and go back to where that was done."""
    form = tk.request.form
    resource_id = form.get("resource_id", "")
    try:
        tk.get_action("datastore_dump_request")({}, {"resource_id": resource_id, "force": form.get("force", "")})
    except (tk.ObjectNotFound, tk.ValidationError) as error:
        said = error.error_summary.values() if isinstance(error, tk.ValidationError) else [error]
        tk.h.flash_error(" ".join(map(str, said)))
    else:
        tk.h.flash_success(tk._("The dump of {id} was asked for.").format(id=resource_id))
    asked = {name: form[name] for name in _ARGUMENTS if form.get(name)}
    return tk.redirect_to("datastore_dumper_admin.index", **asked)


def _page(asked: dict[str, str], **found: Any) -> Any:
    here = {name: tk.request.args[name] for name in _ARGUMENTS if tk.request.args.get(name)}
    return tk.render("admin/datastore_dumps.html", {"error": None, **found, "asked": asked, "here": here})


admin_blueprint.add_url_rule("/datastore-dumps", view_func=index)
admin_blueprint.add_url_rule("/datastore-dumps/request", view_func=request_dump, methods=["POST"])
