"""Storage settings that CKAN has for another extension: s3filestore's, of both forks, and `ckan.files` of 2.12."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from datastore_dumper.errors import ConfigError
from datastore_dumper.storage.from_ckan import FILES, FILESTORE, PREFIX, storage_of
from datastore_dumper.storage.settings import DiskSettings, S3Settings

FILESTORE_KEYS = {
    f"{PREFIX}.storage": "s3filestore",
    f"{FILESTORE}.aws_bucket_name": "portal",
    f"{FILESTORE}.region_name": "eu-west-1",
    f"{FILESTORE}.signature_version": "s3v4",
    f"{FILESTORE}.aws_access_key_id": "key",
    f"{FILESTORE}.aws_secret_access_key": "hush",
}
FILES_S3 = {
    f"{PREFIX}.storage": "ckan.files:cloud",
    f"{FILES}.cloud.type": "ckan:s3",
    f"{FILES}.cloud.bucket": "portal",
}


def filestore(**values: str) -> dict[str, str]:
    return FILESTORE_KEYS | {f"{FILESTORE}.{name.replace('__', '.')}": value for name, value in values.items()}


def files(**values: str) -> dict[str, str]:
    return FILES_S3 | {f"{FILES}.cloud.{name}": value for name, value in values.items()}


def test_s3filestore() -> None:
    found = storage_of(filestore())
    assert found.settings == S3Settings(
        endpoint="s3.amazonaws.com",
        bucket="portal",
        prefix="datastore-dumps",
        region="eu-west-1",
        access_key="key",
        secret_key="hush",
    )
    assert (found.link_base, found.link_expiry_seconds) == ("", None)


def test_s3filestore_with_all_that_it_has() -> None:
    found = storage_of(
        filestore(
            host_name="http://minio:9000",
            aws_storage_path="/my-site/",
            addressing_style="path",
            aws_role=" arn:aws:iam::1:role/r ",
            download_proxy="https://example.com/my-bucket/",
            signed_url_expiry="3600",
            acl="public-read",
            non_current_acl="auto",
            acl__async_update="False",
            use_filename="True",
            signed_url_cache_window="1800",
            filesystem_download_fallback="true",
        )
    )
    assert found.settings == S3Settings(
        endpoint="minio:9000",
        bucket="portal",
        secure=False,
        prefix="my-site/datastore-dumps",
        region="eu-west-1",
        access_key="key",
        secret_key="hush",
        role="arn:aws:iam::1:role/r",
        addressing_style="path",
    )
    assert found.link_base == "https://example.com/my-bucket"
    assert found.link_expiry_seconds == 3600


def test_s3filestore_with_the_role_of_the_machine_has_no_keys() -> None:
    found = storage_of(filestore(aws_use_ami_role="True", aws_access_key_id="left over")).settings
    assert isinstance(found, S3Settings)
    assert (found.access_key, found.secret_key) == ("", "")


def test_own_keys_beside_those_of_another_extension() -> None:
    own = {
        f"{PREFIX}.s3.prefix": "dumps",
        f"{PREFIX}.s3.public_endpoint": "files.example.org",
        f"{PREFIX}.s3.public_secure": "true",
    }
    for config, prefix in (
        (filestore(aws_storage_path="a", download_proxy="https://b"), "a/dumps"),
        (files(), "dumps"),
    ):
        found = storage_of(config | own)
        assert isinstance(found.settings, S3Settings)
        assert found.settings.prefix == prefix
        assert (found.settings.public_endpoint, found.settings.public_secure) == ("files.example.org", True)
        assert found.link_base == ""


def test_a_bucket_of_ckan_files() -> None:
    found = storage_of(files(key="key", secret="hush", region="r", endpoint="https://s3.example.org", path="a/b"))
    assert found.settings == S3Settings(
        endpoint="s3.example.org",
        bucket="portal",
        prefix="a/b/datastore-dumps",
        region="r",
        access_key="key",
        secret_key="hush",
    )
    assert storage_of(files()).settings == S3Settings("s3.amazonaws.com", "portal", prefix="datastore-dumps")


def test_a_directory_of_ckan_files() -> None:
    config = {
        f"{PREFIX}.storage": "ckan.files:local",
        f"{FILES}.local.type": "ckan:fs",
        f"{FILES}.local.path": "/var/lib/ckan/files",
        f"{FILES}.local.initialize": "true",
    }
    found = storage_of(config)
    assert found.settings == DiskSettings(Path("/var/lib/ckan/files/datastore-dumps"))


@pytest.mark.parametrize(
    ("config", "key"),
    [
        (filestore(aws_bucket_name=""), f"{FILESTORE}.aws_bucket_name"),
        (filestore(aws_secret_access_key=""), f"{FILESTORE}.aws_secret_access_key"),
        (filestore(host_name="https://minio/path"), f"{FILESTORE}.host_name"),
        (filestore(host_name="https://user:hush@minio"), f"{FILESTORE}.host_name"),
        (filestore(host_name="ftp://minio"), f"{FILESTORE}.host_name"),
        (filestore(addressing_style="dns"), f"{FILESTORE}.addressing_style"),
        (filestore(signed_url_expiry="an hour"), f"{FILESTORE}.signed_url_expiry"),
        (filestore(aws_use_ami_role="perhaps"), f"{FILESTORE}.aws_use_ami_role"),
        (filestore(download_proxy="files.example.org"), f"{FILESTORE}.download_proxy"),
        ({f"{PREFIX}.storage": "ckan.files:none"}, f"{PREFIX}.storage"),
        ({f"{PREFIX}.storage": "ckan.files:"}, f"{PREFIX}.storage"),
        (files(public="true"), f"{FILES}.cloud.public"),
        (files(type="ckan:public_fs"), f"{FILES}.cloud.type"),
        (files(type="ckan:libcloud"), f"{FILES}.cloud.type"),
        (files(type="ckan:fs"), f"{FILES}.cloud.path"),
        (files(type="ckan:fs", path="files"), f"{FILES}.cloud.path"),
        (files(bucket=" "), f"{FILES}.cloud.bucket"),
        (files(key="key"), f"{FILES}.cloud.secret"),
    ],
)
def test_an_error_names_ckans_key_and_no_secret(config: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{re.escape(key)} ") as caught:
        storage_of(config)
    assert caught.value.hint
    assert "hush" not in str(caught.value)
