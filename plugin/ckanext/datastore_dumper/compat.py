"""Names the release of CKAN whose dump bytes this site sends, in the words of the daemon's `compat`."""

from __future__ import annotations

import re

# The first release with ckan.datastore.ms_in_timestamp (ckanext/datastore/config_declaration.yaml).
_MILLISECONDS_SINCE = (2, 12)


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
