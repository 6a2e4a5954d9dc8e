"""`config show`: every setting with its value and where it comes from, as text and as JSON, and no secret."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from datastore_dumper.config.fields import settings
from tests.cli.conftest import command
from tests.config.render import render, valid_values

SECRETS = ("hunter2", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "FwoGZXIvYXdzEXAMPLETOKEN")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "dumper.yaml"
    values = {**valid_values(), ("database", "dsn"): '"postgresql://u:hunter2@h/d"'}
    made.write_text(render(values).text, encoding="utf-8")
    return made


def test_json(path: Path) -> None:
    done = command(path, "config", "show", "--json")
    assert done.returncode == 0
    shown = json.loads(done.stdout)
    assert list(shown) == [setting.name for setting in settings().values()]
    assert shown["export.formats"] == {"value": ["csv", "csv-bom"], "source": shown["export.formats"]["source"]}
    assert shown["export.formats"]["source"].startswith(f"{path}, line ")
    assert shown["database.dsn_file"] == {"value": None, "source": "default"}
    assert shown["look.interval_seconds"]["value"] == 2
    assert not any(secret in done.stdout for secret in SECRETS)


def test_text(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTORE_DUMPER_LEASE__TTL_SECONDS", "7")
    done = command(path, "config", "show")
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert set(lines) == {setting.name for setting in settings().values()}
    assert lines["lease.ttl_seconds"].split()[1:] == [
        "7.0",
        "environment",
        "variable",
        "DATASTORE_DUMPER_LEASE__TTL_SECONDS",
    ]
    assert not any(secret in done.stdout for secret in SECRETS)


def test_credentials_of_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LoadCredential=dsn:... puts the file into $CREDENTIALS_DIRECTORY; the setting names it."""
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "dsn").write_text("postgresql://u:hunter2@h/d\n", encoding="utf-8")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    path = tmp_path / "dumper.yaml"
    path.write_text("database: {dsn_file: dsn}\nstorage: {type: disk, disk: {directory: /x}}\n", encoding="utf-8")
    shown = json.loads(command(path, "config", "show", "--json").stdout)
    assert shown["database.dsn"]["value"] == "**********"
    assert shown["database.dsn"]["source"] == (
        f"{credentials}/dsn, named by database.dsn_file in {path}, line 1, column 22"
    )
