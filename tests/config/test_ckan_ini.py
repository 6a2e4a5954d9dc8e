"""Settings from CKAN's own ini file, read as CKAN reads it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from datastore_dumper.config import LoadedConfig, load
from datastore_dumper.config.ckan_ini import CKAN_INI_VARIABLE, ckan_config
from datastore_dumper.config.storage import storage_settings
from datastore_dumper.errors import ConfigError
from datastore_dumper.storage.from_ckan import storage_of
from datastore_dumper.storage.settings import DiskSettings
from tests.support.ckan_env import ckan_environment

INI = """
[DEFAULT]
debug = false

[app:main]
use = egg:ckan
ckan.plugins = datastore_dumper datastore
ckan.datastore.write_url = postgresql+psycopg2://ckan%%40write:p%%25hush@db/datastore?sslmode=require
ckan.datastore.read_url = postgresql://reader:hush@db/datastore
ckan.datastore.ms_in_timestamp = False
ckanext.datastore_dumper.storage = disk
ckanext.datastore_dumper.disk.directory = %(here)s/files
ckanext.datastore_dumper.link_expiry_seconds = 120
ckanext.datastore_dumper.alterations = labels omit_id

[loggers]
keys = root
"""


def written(path: Path, text: str = INI) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def loaded(ini: Path, file: Path | None = None, **environ: str) -> LoadedConfig:
    return load(file, {CKAN_INI_VARIABLE: str(ini), **environ})


def test_nothing_is_typed_twice(tmp_path: Path) -> None:
    ini = written(tmp_path / "ckan.ini")
    found = loaded(ini)
    config = found.config
    assert config.database.dsn.get_secret_value() == "postgresql://ckan%40write:p%25hush@db/datastore?sslmode=require"
    roles = config.roles
    assert (roles.daemon, roles.ckan_write, roles.ckan_read) == ("ckan@write", "ckan@write", "reader")
    assert not config.ckan.ms_in_timestamp
    assert storage_settings(config) == DiskSettings(tmp_path / "files")
    assert config.storage.link_expiry_seconds == 120
    assert (config.export.header, config.export.omit_id) == ("labels", True)
    assert found.sources["database.dsn"] == f"{ini}, ckan.datastore.write_url"
    assert found.sources["storage.disk.directory"] == f"{ini}, ckanext.datastore_dumper.disk.directory"
    assert found.files["database.dsn"] == ini


@pytest.mark.parametrize(
    "storage",
    [
        {"ckanext.datastore_dumper.storage": "s3", "ckanext.datastore_dumper.s3.bucket": "dumps"},
        {
            "ckanext.datastore_dumper.storage": "s3filestore",
            "ckanext.s3filestore.aws_bucket_name": "portal",
            "ckanext.s3filestore.region_name": "eu-west-1",
            "ckanext.s3filestore.host_name": "http://minio:9000",
            "ckanext.s3filestore.aws_access_key_id": "key",
            "ckanext.s3filestore.aws_secret_access_key": "hush",
            "ckanext.s3filestore.aws_storage_path": "site",
            "ckanext.s3filestore.aws_role": "arn:aws:iam::1:role/r",
            "ckanext.s3filestore.addressing_style": "path",
            "ckanext.datastore_dumper.s3.public_endpoint": "files.example.org",
            "ckanext.datastore_dumper.s3.public_secure": "true",
        },
        {
            "ckanext.datastore_dumper.storage": "ckan.files:cloud",
            "ckan.files.storage.cloud.type": "ckan:s3",
            "ckan.files.storage.cloud.bucket": "portal",
            "ckan.files.storage.cloud.path": "a",
        },
        {
            "ckanext.datastore_dumper.storage": "ckan.files:local",
            "ckan.files.storage.local.type": "ckan:fs",
            "ckan.files.storage.local.path": "/files",
        },
    ],
)
def test_daemon_and_plugin_find_the_same_storage(tmp_path: Path, storage: dict[str, str]) -> None:
    lines = ["[app:main]", "ckan.datastore.write_url = postgresql://h/d", *map(" = ".join, storage.items())]
    config = loaded(written(tmp_path / "ckan.ini", "\n".join(lines))).config
    assert storage_settings(config) == storage_of(storage).settings


def test_whatever_else_is_given_has_precedence(tmp_path: Path) -> None:
    file = written(tmp_path / "dumper.yaml", "database: {dsn: 'postgresql://own@h/d'}\nexport: {omit_id: false}\n")
    config = loaded(written(tmp_path / "ckan.ini"), file, DATASTORE_DUMPER_ROLES__CKAN_READ="other").config
    assert config.database.dsn.get_secret_value() == "postgresql://own@h/d"
    assert config.roles.daemon is None
    assert not config.export.omit_id
    assert config.roles.ckan_read == "other"
    assert config.export.header == "labels"


def test_a_file_of_the_dsn_displaces_ckans(tmp_path: Path) -> None:
    secret = written(tmp_path / "dsn", "postgresql://own@h/d\n")
    config = loaded(written(tmp_path / "ckan.ini"), None, DATASTORE_DUMPER_DATABASE__DSN_FILE=str(secret)).config
    assert config.database.dsn.get_secret_value() == "postgresql://own@h/d"


def test_an_ini_without_us_leaves_the_storage_to_others(tmp_path: Path) -> None:
    ini = written(tmp_path / "ckan.ini", "[app:main]\nckan.datastore.write_url = postgresql://h/d\n")
    with pytest.raises(ConfigError, match=r"storage\.type is missing"):
        loaded(ini)
    given = {"DATASTORE_DUMPER_STORAGE__TYPE": "disk", "DATASTORE_DUMPER_STORAGE__DISK__DIRECTORY": "/x"}
    assert storage_settings(loaded(ini, None, **given).config) == DiskSettings(Path("/x"))


def test_variables_that_ckan_heeds(tmp_path: Path) -> None:
    variables = {
        "CKAN_DATASTORE_WRITE_URL": "postgresql://w@h/d",
        "CKANEXT__DATASTORE_DUMPER__DISK__DIRECTORY": "/from/envvars",
    }
    assert loaded(written(tmp_path / "ckan.ini"), **variables).config.roles.ckan_write == "w"
    plain = loaded(written(tmp_path / "ckan.ini"), None, **variables).config
    assert storage_settings(plain) == DiskSettings(tmp_path / "files")
    with_plugin = written(tmp_path / "envvars.ini", INI.replace("= datastore_dumper", "= envvars datastore_dumper"))
    assert storage_settings(loaded(with_plugin, None, **variables).config) == DiskSettings(Path("/from/envvars"))


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    written(tmp_path / "below" / "base.ini", INI + "\n[app:main2]\nx = 1\n")
    return written(
        tmp_path / "ckan.ini",
        "[app:main]\nuse = config:below/base.ini\nname = %(ckan.plugins)s of %(CKAN_NAME)s in %(here)s\n"
        "ckanext.datastore_dumper.link_expiry_seconds = 60\n",
    )


def test_a_chain_of_files(chain: Path) -> None:
    config = ckan_config(chain, {"CKAN_NAME": "100%"})
    assert config["name"] == f"datastore_dumper datastore of 100% in {chain.parent}"
    assert config["ckanext.datastore_dumper.disk.directory"] == f"{chain.parent}/below/files"
    assert config["ckanext.datastore_dumper.link_expiry_seconds"] == "60"


def test_which_file_holds_a_value(chain: Path) -> None:
    found = loaded(chain, None, CKAN_NAME="portal")
    assert found.files["database.dsn"] == chain.parent / "below" / "base.ini"
    assert found.files["storage.link_expiry_seconds"] == chain
    found = loaded(chain, None, CKAN_NAME="portal", CKAN_DATASTORE_WRITE_URL="postgresql://w:hush@h/d")
    assert found.config.roles.ckan_write == "w"
    assert "database.dsn" not in found.files


@pytest.mark.ckan
def test_ckan_reads_it_likewise(chain: Path, ckan_version: str) -> None:
    script = (
        "import json, sys; sys.path.insert(0, ''); from ckan.cli import CKANConfigLoader as L;"
        "print(json.dumps({k: v for k, v in L(sys.argv[1]).get_config().items() if isinstance(v, str)}))"
    )
    environment = ckan_environment(ckan_version)
    base = chain.parent / "below" / "base.ini"
    base.write_text(base.read_text().replace("[loggers]\nkeys = root\n", ""))  # CKAN would set them up
    result = subprocess.run(
        [environment.python, "-c", script, str(chain)],
        env={**environment.environ(), "CKAN_NAME": "portal"},
        cwd=chain.parent,
        capture_output=True,
        text=True,
        check=True,
    )

    core = json.loads(result.stdout)
    ours = ckan_config(chain, {"CKAN_NAME": "portal"})
    assert {key: core.get(key) for key in ours if key.startswith("ckan")} == {
        key: value for key, value in ours.items() if key.startswith("ckan")
    }
    assert core["name"] == ours["name"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("no ini", "is no ini file"),
        ("[app:main\nx", "is no ini file"),
        ("[server:main]\nx = 1\n", r"has no section \[app:main\]"),
        ("[app:main]\nckan.site_url = a%hush\n", r"ckan\.site_url has a % that stands for nothing"),
        ("[app:main]\nuse = config:ckan.ini\n", "is used by itself"),
        ("[app:main]\nuse = config:gone.ini\n", r"gone\.ini: there is no such file"),
        ("[app:main]\nckanext.datastore_dumper.storage = ftp\n", r"ckanext\.datastore_dumper\.storage is 'ftp'"),
        ("[app:main]\nckan.datastore.write_url = hush hush\n", r"ckan\.datastore\.write_url: database\.dsn is not a"),
        (
            "[app:main]\nckanext.datastore_dumper.storage = s3\nckanext.datastore_dumper.s3.bucket = d\n"
            "ckanext.datastore_dumper.s3.secret_key = hush\n",
            r"s3\.access_key is not set",
        ),
    ],
)
def test_an_error_names_file_and_key_and_shows_no_secret(tmp_path: Path, text: str, complaint: str) -> None:
    ini = written(tmp_path / "ckan.ini", text)
    with pytest.raises(ConfigError, match=complaint) as caught:
        loaded(ini)
    assert str(tmp_path) in str(caught.value)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_what_cannot_be_read_is_no_traceback(tmp_path: Path, content: bytes | None) -> None:
    ini = tmp_path / "ckan.ini"
    if content is not None:
        ini.write_bytes(content)
    with pytest.raises(ConfigError, match=r"ckan\.ini: "):
        loaded(ini)
    with pytest.raises(ConfigError, match=r"cannot be read"):
        loaded(tmp_path)


def test_on_the_command_line(tmp_path: Path) -> None:
    ini = written(tmp_path / "ckan.ini")
    program = [sys.executable, "-m", "datastore_dumper", "config"]
    shown = subprocess.run(
        [*program, "show", "--ckan-ini", str(ini)], capture_output=True, text=True, check=True, cwd=tmp_path
    ).stdout
    assert f"{ini}, ckan.datastore.write_url" in shown
    assert "hush" not in shown
    shutil.move(ini, tmp_path / "moved.ini")
    failed = subprocess.run([*program, "validate", "--ckan-ini", str(ini)], capture_output=True, text=True, check=False)
    assert failed.returncode == 78
    assert "there is no such file" in failed.stderr
