"""Finds out what the download menu of a resource has to say, in one query, or that it is CKAN's own menu that is right."""

from __future__ import annotations

from ckanext.datastore_dumper.downloads import Offer, is_ready, offers
from ckanext.datastore_dumper.overview import FileStatus, ResourceStatus, resource_status
from ckanext.datastore_dumper.portal import Portal
from ckanext.datastore_dumper.staleness import allowed_staleness
from datastore_dumper.errors import ConfigError


def ready_files(resource_id: str, status: ResourceStatus, portal: Portal) -> dict[str, FileStatus]:
    """Those that requests are answered with, by format. None of them on a site that hands out none."""
    try:
        settings = portal.settings
    except ConfigError:
        return {}  # logged when CKAN started
    if portal.not_offered:
        return {}
    is_behind = any(not file.fresh for file in status.files if file.error is None)
    allowed = allowed_staleness(resource_id, portal) if is_behind else 0
    return {
        file.format: file
        for file in status.files
        if is_ready(file, compat=portal.compat, alterations=settings.alterations, allowed_seconds=allowed)
    }


def download_menu(resource_id: str, portal: Portal) -> list[Offer] | None:
    """The formats of a table that the user may read; None for CKAN's own menu. Raises as `overview.resource_status`."""
    if portal.not_offered or resource_id in portal.public_tables:
        return None
    try:
        extra_formats = portal.settings.extra_formats
    except ConfigError:
        return None
    status = resource_status(resource_id)
    if status is None:
        return None
    return offers(status, ready_files(resource_id, status, portal), extra_formats)
