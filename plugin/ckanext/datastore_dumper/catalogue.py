"""What CKAN's own database knows of resources: their names and those of their datasets. For sysadmins: it asks nobody's leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from ckan import model


@dataclass(frozen=True)
class Names:
    """What people call a resource. All None where CKAN has none of that id."""

    resource_name: str | None
    package_id: str | None
    package_title: str | None


NAMELESS = Names(None, None, None)


def names_of(resource_ids: Sequence[str]) -> dict[str, Names]:
    """The names of those that there are, deleted ones included, in one query."""
    if not resource_ids:
        return {}
    found = _resources(
        model.Resource.id, model.Resource.name, model.Package.id, model.Package.title, model.Package.name
    )
    return {
        resource_id: Names(name, package_id, title or package_name)
        for resource_id, name, package_id, title, package_name in found.filter(model.Resource.id.in_(resource_ids))
    }


def resources_called(search: str) -> list[str]:
    """Ids of the resources with the text in their names, or in the names or titles of their datasets."""
    named = (model.Resource.name, model.Package.name, model.Package.title)
    part = search.lower()
    holds = (sa.func.lower(column).contains(part, autoescape=True) for column in named)
    found = _resources(model.Resource.id).filter(sa.or_(*holds))
    return [resource_id for (resource_id,) in found]


def _resources(*columns: Any) -> Any:
    return model.Session.query(*columns).join(model.Package, model.Resource.package_id == model.Package.id)
