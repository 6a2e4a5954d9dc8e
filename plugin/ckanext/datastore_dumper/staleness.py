"""How far behind its table a file may be: what the site says, or the resource itself."""

from __future__ import annotations

import logging

from ckan import model

from ckanext.datastore_dumper.portal import Portal
from datastore_dumper.errors import ConfigError
from datastore_dumper.storage.from_ckan import whole_number

RESOURCE_FIELD = "datastore_dump_max_staleness_seconds"
"""A field of the resource. CKAN keeps whatever fields it does not know (`extras` of the table `resource`)."""

log = logging.getLogger(__name__)


def allowed_staleness(resource_id: str, portal: Portal) -> int:
    """In seconds. The resource's own word counts, be it more or less than the site's."""
    resource = model.Resource.get(resource_id)
    fields = resource.extras if resource is not None else None
    try:
        own = whole_number(fields or {}, RESOURCE_FIELD, None)
    except ConfigError as error:
        log.warning("resource %s: %s, so its files may not be behind", resource_id, error.message)
        return 0
    return portal.settings.max_staleness_seconds if own is None else own
