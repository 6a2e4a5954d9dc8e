"""Commands of `ckan`. Each name in `__all__` is one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import ckan.plugins.toolkit as tk
import click

from ckanext.datastore_dumper.checks import problems
from ckanext.datastore_dumper.overview import STATES

__all__ = ["datastore_dumper"]

_LIST_ALL = 1000


@click.group(name="datastore-dumper", short_help="Ready-made DataStore dumps.")
def datastore_dumper() -> None:
    """How the ready-made dumps of DataStore resources are, and asking for one.

    The daemon has a command line of its own, `datastore-dumper`, which knows more. This one needs nothing but CKAN.
    """


@datastore_dumper.command()
@click.argument("resource_id", required=False)
@click.option("-q", "search", default="", help="Part of the id or name of resources, or of their datasets.")
@click.option("--state", help="Only those that are ready, waiting, exporting, failing or unkept.")
@click.option("--json", "as_json", is_flag=True, help="What the action returns, as JSON.")
def status(resource_id: str | None, search: str, state: str | None, as_json: bool) -> None:
    """Show the dumps of one resource, or of all."""
    if resource_id:
        found = _call("datastore_dump_status", resource_id=resource_id)
        _show(found, _one(found), as_json=as_json)
        return
    asked = {"q": search, "sort": "state", **({"state": state} if state else {})}
    found = _call("datastore_dump_list", **asked, limit=_LIST_ALL)
    while len(found["results"]) < found["count"]:
        more = _call("datastore_dump_list", **asked, limit=_LIST_ALL, offset=len(found["results"]))["results"]
        if not more:
            break  # tables were dropped meanwhile
        found["results"] += more
    _show(found, _all(found), as_json=as_json)


@datastore_dumper.command()
@click.argument("resource_id", nargs=-1, required=True)
@click.option("--force", is_flag=True, help="Make all files anew, also if nothing has changed.")
def request(resource_id: Sequence[str], force: bool) -> None:
    """Have dumps made now, without waiting until the resources have not been changed for a while."""
    for each in resource_id:
        asked = _call("datastore_dump_request", resource_id=each, force=force)
        click.echo(f"{asked['resource_id']}: asked for")


@datastore_dumper.command()
def check() -> None:
    """Try what the plugin needs. Exit code 1 if anything is amiss."""
    found = problems()
    for problem in found:
        click.echo(problem, err=True)
    if found:
        raise SystemExit(1)
    click.echo("Ready-made dumps are handed out.")


def _call(action: str, **data: Any) -> dict[str, Any]:
    """As the user that CKAN's commands act as. Exits with what went wrong."""
    user = tk.get_action("get_site_user")({"ignore_auth": True}, {})["name"]
    try:
        result: dict[str, Any] = tk.get_action(action)({"user": user, "ignore_auth": True}, data)
    except tk.ValidationError as error:
        raise click.ClickException(" ".join(f"{key}: {said}" for key, said in error.error_summary.items())) from error
    except tk.ObjectNotFound as error:
        raise click.ClickException(str(error)) from error
    return result


def _show(found: dict[str, Any], lines: list[str], *, as_json: bool) -> None:
    click.echo(json.dumps(found, indent=2, ensure_ascii=False) if as_json else "\n".join(lines))


def _one(found: dict[str, Any]) -> list[str]:
    lines = [f"{found['resource_id']}  {found['state']}"]
    if found["pending_since"]:
        lines.append(f"  changed since {found['pending_since']} (UTC), transactions: {found['pending_changes']}")
    if found["requested_at"]:
        lines.append(f"  asked for at {found['requested_at']} (UTC)")
    if found["progress"]:
        expected = found["progress"]["expected_rows"]
        lines.append(f"  {found['progress']['rows']}{'' if expected is None else f' of about {expected}'} rows")
    if found["state"] == "unkept":
        lines.append(f"  no files are kept: {found.get('choice_detail') or found['choice']}")
    if found.get("last_error"):
        lines.append(f"  error: {found['last_error']}")
    for file in found["formats"]:
        name = f"{file['format']}{' with byte order mark' if file['bom'] else ''}"
        if "error" in file:
            lines.append(f"  {name}: cannot be had: {file['error']}")
        else:
            how = "ready" if file["ready"] else "fresh, but not handed out" if file["fresh"] else "out of date"
            lines.append(f"  {name}: {how}, {file['rows']} rows, {file['bytes']} bytes, {file['generated_at']} (UTC)")
    return lines


def _all(found: dict[str, Any]) -> list[str]:
    lines = [
        f"{each['resource_id']}  {each['state']:9}  {each['rows'] or 0:>12} rows  {each['bytes'] or 0:>15} bytes"
        f"  {','.join(each['formats'])}{'  ' + each['last_error'] if each['last_error'] else ''}"
        f"{'  ' + each['choice_detail'] if each['state'] == 'unkept' else ''}"
        for each in found["results"]
    ]
    counts = found["totals"]
    states = ", ".join(f"{name} {counts[name]}" for name in STATES)
    lines.append(
        f"resources {counts['resources']}: {states}; files {counts['files']}, {counts['bytes']} bytes; "
        f"daemons connected: {found['daemons']}"
    )
    return lines
