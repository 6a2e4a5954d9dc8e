"""Compares the CKAN that a file was made for with the one that is running, in the words of the daemon's `compat`."""

from __future__ import annotations

import re
from collections.abc import Collection

# The first release with ckan.datastore.ms_in_timestamp (ckanext/datastore/config_declaration.yaml).
_MILLISECONDS_SINCE = (2, 12)

ALTERATIONS = ("labels", "omit_id")
"""What the daemon can be told to do otherwise than CKAN, in the order in which `compat` names it after the release."""


def compat_of(ckan_version: str, *, ms_in_timestamp: bool) -> str:
    """`2.11` for any 2.11.x; from 2.12 on, `2.12`, or `2.12-noms` where milliseconds are switched off.

    `ms_in_timestamp` is not looked at before 2.12: timestamps had no milliseconds then.
    """
    release = re.match(r"(\d+)\.(\d+)", ckan_version)
    if release is None:
        raise ValueError(f"not a version of CKAN: {ckan_version}")
    major, minor = int(release[1]), int(release[2])
    name = f"{major}.{minor}"
    return f"{name}-noms" if (major, minor) >= _MILLISECONDS_SINCE and not ms_in_timestamp else name


def objection(made_for: str, running: str, alterations: Collection[str]) -> str | None:
    """Why a file made for `made_for` must not be handed out where CKAN is `running`, and the way out; None if it may.

    A file with CKAN's own bytes may, whatever the site's `alterations` are, for it is what CKAN would send. A file that
    was made otherwise may only if it was altered as the site says, no less and no more.
    """
    release, *altered = made_for.split("+")
    if release != running:
        return (
            f"they are made for CKAN {release}, this is {running}. "
            f"Set {_daemon_settings(running)} in the daemon's configuration"
        )
    if not altered or set(altered) == set(alterations):
        return None
    return (
        f"they are not as CKAN makes them ({', '.join(altered)}). If everybody is to get such files, set "
        f"ckanext.datastore_dumper.alterations = {' '.join(altered)}; else leave export.header and export.omit_id out "
        "of the daemon's configuration"
    )


def _daemon_settings(compat: str) -> str:
    release = compat.removesuffix("-noms")
    if tuple(map(int, release.split("."))) < _MILLISECONDS_SINCE:
        return f'ckan.compat to "{release}"'
    return f'ckan.compat to "{release}" and ckan.ms_in_timestamp to {"false" if release != compat else "true"}'
