"""From CKAN's configuration to typed settings, with the declaration's own defaults."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ckanext.datastore_dumper import settings
from ckanext.datastore_dumper.settings import PREFIX, check_plugin_order, one_line, read
from datastore_dumper.errors import ConfigError, StorageError
from datastore_dumper.storage import from_ckan
from datastore_dumper.storage.settings import DiskSettings, S3Settings, open_storage

DECLARATION = yaml.safe_load(Path(settings.__file__).with_name("config_declaration.yaml").read_text())
OPTIONS = {option["key"]: option for option in DECLARATION["groups"][0]["options"]}


def config(**values: Any) -> dict[str, Any]:
    """What CKAN makes of an ini file that has these keys (`__` for the dot) and nothing else of ours."""
    defaults = {key: option.get("default") for key, option in OPTIONS.items()}
    return defaults | {f"{PREFIX}.{key.replace('__', '.')}": value for key, value in values.items()}


S3 = {"storage": "s3", "s3__bucket": "dumps", "s3__access_key": "key", "s3__secret_key": "hush"}


def test_every_setting_is_described() -> None:
    assert all(option["description"] for option in OPTIONS.values())


def test_every_setting_is_read() -> None:
    """One that nothing reads would be a promise not kept."""
    modules = [*Path(settings.__file__).parent.glob("*.py"), Path(from_ckan.__file__)]
    code = "".join(path.read_text() for path in modules)
    for key in OPTIONS:
        name = key.removeprefix(PREFIX + ".")
        ways = (
            f'"{name}"',
            f"{{PREFIX}}.{name}",
            f'"{name.removeprefix("s3.")}"',
            f"{{kind}}.{name.rpartition('.')[2]}",
        )
        assert any(way in code for way in ways), key


def test_disk(tmp_path: Path) -> None:
    found = read(config(storage="disk", disk__directory=f" {tmp_path} "))
    assert found.storage == DiskSettings(tmp_path)
    assert found.link_expiry_seconds == 300
    assert (found.extra_formats, found.alterations, found.readable_filenames) == ((), (), False)


def test_options(tmp_path: Path) -> None:
    found = read(
        config(
            storage="disk",
            disk__directory=str(tmp_path),
            extra_formats=["csv.gz", "parquet"],
            alterations=["omit_id", "labels"],
            filename="name",
        )
    )
    assert found.extra_formats == ("csv.gz", "parquet")
    assert found.alterations == ("omit_id", "labels")
    assert found.readable_filenames


def test_s3() -> None:
    found = read(config(**S3, s3__public_endpoint="files.example.org", s3__public_secure=False, link_expiry_seconds=60))
    assert found.delivery == "redirect"
    assert found.storage == S3Settings(
        endpoint="s3.amazonaws.com",
        bucket="dumps",
        secure=True,
        prefix="datastore-dumps",
        access_key="key",
        secret_key="hush",
        public_endpoint="files.example.org",
        public_secure=False,
        # CKAN asks while somebody waits.
        connect_timeout_seconds=2,
        read_timeout_seconds=10,
        retries=1,
    )
    assert found.link_expiry_seconds == 60


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({}, "storage"),
        ({"storage": "ftp"}, "storage"),
        ({"storage": "disk"}, "disk.directory"),
        ({"storage": "disk", "disk__directory": "files"}, "disk.directory"),
        ({**S3, "s3__bucket": None}, "s3.bucket"),
        ({**S3, "s3__secret_key": None}, "s3.secret_key"),
        ({**S3, "s3__access_key": ""}, "s3.access_key"),
        ({**S3, "s3__addressing_style": "dns"}, "s3.addressing_style"),
        ({**S3, "link_expiry_seconds": 0}, "link_expiry_seconds"),
        ({**S3, "link_expiry_seconds": 604_801}, "link_expiry_seconds"),
        ({**S3, "extra_formats": ["parquet", "csv"]}, "extra_formats"),
        ({**S3, "extra_formats": ["xml-bom"]}, "extra_formats"),
        ({**S3, "alterations": ["label"]}, "alterations"),
        ({**S3, "filename": "title"}, "filename"),
        ({**S3, "delivery": "file"}, "delivery"),
        ({**S3, "s3__delivery": "nginx"}, "s3.delivery"),
        ({"storage": "disk", "disk__directory": "/files", "delivery": "redirect"}, "delivery"),
        ({**S3, "accel_location": "dumps"}, "accel_location"),
        ({**S3, "accel_location": "/dumps/../"}, "accel_location"),
        ({**S3, "public_cache_seconds": 300}, "public_cache_seconds"),
        ({**S3, "max_staleness_seconds": "-1"}, "max_staleness_seconds"),
        ({**S3, "s3__secure": "perhaps"}, "s3.secure"),
    ],
)
def test_an_error_names_the_key_and_no_secret(values: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{re.escape(f'{PREFIX}.{key}')} ") as caught:
        read(config(**values))
    assert caught.value.hint
    assert "hush" not in str(caught.value)


def test_what_the_storage_says_is_in_the_words_of_ckan(tmp_path: Path) -> None:
    storage = open_storage(read(config(storage="disk", disk__directory=str(tmp_path / "gone"))).storage)
    with pytest.raises(ConfigError) as caught:
        storage.stat("a/b/a.csv")
    assert f"{PREFIX}.disk.directory" in one_line(caught.value)


def test_an_error_is_one_line() -> None:
    assert one_line(StorageError("a\nb", hint="do\nthis")) == "a b (do this)"
    assert one_line(StorageError("alone")) == "alone"


def test_plugin_order() -> None:
    check_plugin_order(["activity", "datastore_dumper", "tabledesigner", "datastore"])
    with pytest.raises(ConfigError, match="not datastore"):
        check_plugin_order(["datastore_dumper"])
    with pytest.raises(ConfigError, match="after datastore"):
        check_plugin_order(["datastore", "datastore_dumper"])


def test_the_defaults_of_the_declaration_are_those_of_the_code(tmp_path: Path) -> None:
    """The daemon reads the same keys without CKAN's declarations."""
    bare = {f"{PREFIX}.{key.replace('__', '.')}": value for key, value in S3.items()}
    assert from_ckan.storage_of(config(**S3)) == from_ckan.storage_of(bare)


def test_text_does_as_well_as_what_ckan_makes_of_it() -> None:
    as_text = config(**S3, s3__secure="false", s3__public_secure="True", link_expiry_seconds="60")
    typed = config(**S3, s3__secure=False, s3__public_secure=True, link_expiry_seconds=60)
    assert read(as_text) == read(typed)


@pytest.mark.parametrize(
    ("values", "delivery"),
    [
        (S3, "redirect"),
        ({**S3, "delivery": "accel"}, "accel"),
        ({**S3, "delivery": "accel", "s3__delivery": "proxy", "disk__delivery": "nonsense"}, "proxy"),
        ({"storage": "disk", "disk__directory": "/files"}, "file"),
        ({"storage": "disk", "disk__directory": "/files", "delivery": "accel"}, "accel"),
        ({"storage": "disk", "disk__directory": "/files", "delivery": "proxy", "disk__delivery": "file"}, "file"),
    ],
)
def test_delivery_is_the_storages_own_or_the_sites(values: dict[str, Any], delivery: str) -> None:
    assert read(config(**values)).delivery == delivery
