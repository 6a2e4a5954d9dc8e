"""The CKAN that other tests rely on is a real one: it stores, authorizes, and dumps what it should."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.ckan_site import USER, CkanError, CkanPlatform, CkanSite

pytestmark = pytest.mark.ckan

FIELDS = [{"id": "id", "type": "int4"}, {"id": "when", "type": "timestamp"}, {"id": "what", "type": "text"}]


def _resource(site: CkanSite, **dataset: Any) -> str:
    """A dataset with one resource that has a table. Returns the resource's id."""
    package = site.action("package_create", **dataset)
    resource = {"package_id": package["id"], "name": "Measurements"}
    created = site.action("datastore_create", resource=resource, fields=FIELDS, primary_key=["id"])
    return str(created["resource_id"])


def test_a_change_over_the_api_shows_in_the_dump(ckan_site: CkanSite) -> None:
    resource_id = _resource(ckan_site, name="changing")
    ckan_site.action(
        "datastore_upsert",
        resource_id=resource_id,
        records=[
            {"id": 1, "when": "2024-01-02T03:04:05.6789", "what": 'comma, "quote"'},
            {"id": 2, "when": None, "what": ""},
            {"id": 3, "what": "Größe"},
        ],
    )
    ckan_site.action("datastore_upsert", resource_id=resource_id, records=[{"id": 3, "what": "länger"}])
    ckan_site.action("datastore_delete", resource_id=resource_id, filters={"id": 2})

    response = ckan_site.get(f"/datastore/dump/{resource_id}")

    milliseconds = ".678" if ckan_site.platform.version == "2.12" else ""
    assert response.status == 200
    # CKAN sets text/csv as well, but `mimetype` wins (ckanext/datastore/blueprint.py, werkzeug's Response).
    assert response.headers["Content-Type"] == "application/octet-stream"
    assert response.headers["Content-Disposition"] == f'attachment; filename="{resource_id}.csv"'
    assert response.data == (
        b"_id,id,when,what\r\n" + f'1,1,2024-01-02T03:04:05{milliseconds},"comma, ""quote"""\n3,3,,länger\n'.encode()
    )
    with_bom = ckan_site.get(f"/datastore/dump/{resource_id}?bom=True")
    assert with_bom.data == b"\xef\xbb\xbf" + response.data


def test_a_private_dataset_is_for_its_organization(ckan_site: CkanSite) -> None:
    organization = ckan_site.action("organization_create", name="closed")
    resource_id = _resource(ckan_site, name="private", private=True, owner_org=organization["id"])

    assert ckan_site.get(f"/datastore/dump/{resource_id}").status == 404
    assert ckan_site.get(f"/datastore/dump/{resource_id}", token=ckan_site.platform.tokens[USER]).status == 404
    assert ckan_site.get(f"/datastore/dump/{resource_id}", token=ckan_site.platform.tokens["admin"]).status == 200
    with pytest.raises(CkanError, match="403"):
        ckan_site.action("datastore_search", token="", resource_id=resource_id)


def test_a_restart_keeps_url_and_data_and_takes_settings(ckan_platform: CkanPlatform) -> None:
    with ckan_platform.site(["datastore"]) as site:
        resource_id = _resource(site, name="kept")
        site.action("datastore_upsert", resource_id=resource_id, records=[{"id": 1, "when": "2024-01-02T03:04:05"}])
        url = site.url
        milliseconds = b".000" if ckan_platform.version == "2.12" else b""
        assert site.get(f"/datastore/dump/{resource_id}").data.endswith(
            b"1,1,2024-01-02T03:04:05" + milliseconds + b",\n"
        )

        site.restart(["datastore"], {"ckan.datastore.ms_in_timestamp": "false"})

        assert site.url == url
        assert site.get(f"/datastore/dump/{resource_id}").data.endswith(b"1,1,2024-01-02T03:04:05,\n")


def test_a_wrong_setting_shows_why_ckan_does_not_start(ckan_platform: CkanPlatform) -> None:
    with (
        pytest.raises(RuntimeError, match="no_such_plugin"),
        ckan_platform.site(["datastore", "no_such_plugin"]),
    ):
        pass
