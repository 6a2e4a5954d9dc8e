"""Where values come from: file, environment, files of secrets, and which of them wins."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastore_dumper.config import load, load_config
from datastore_dumper.config.environ_source import CONFIG_FILE_VARIABLE
from datastore_dumper.config.fields import Setting, settings
from datastore_dumper.config.storage import storage_settings
from datastore_dumper.storage.settings import DiskSettings, S3Settings
from tests.config.render import refusal, render, valid_values, variables

MINIMAL = {
    "DATASTORE_DUMPER_DATABASE__DSN": "postgresql://h/d",
    "DATASTORE_DUMPER_STORAGE__TYPE": "disk",
    "DATASTORE_DUMPER_STORAGE__DISK__DIRECTORY": "/x",
}


def as_text(example: object) -> str:
    if isinstance(example, bool):
        return str(example).lower()
    return ",".join(example) if isinstance(example, tuple) else str(example)


def test_environment_sets_every_setting_as_the_file_does(tmp_path: Path) -> None:
    file = tmp_path / "dumper.yaml"
    file.write_text(render(valid_values()).text, encoding="utf-8")
    environ = {settings()[path].variable: as_text(settings()[path].example) for path in valid_values()}
    from_environment = load(None, environ)
    assert from_environment.config == load_config(file, {})
    for path in valid_values():
        setting = settings()[path]
        assert from_environment.sources[setting.name] == f"environment variable {setting.variable}"


@pytest.mark.parametrize("setting", [s for s in settings().values() if s.kind != "text"], ids=lambda s: s.name)
def test_wrong_text_names_the_variable(setting: Setting) -> None:
    environ = {
        **MINIMAL,
        "DATASTORE_DUMPER_STORAGE__S3__BUCKET": "dumps",
        setting.variable: "not,ri\tght" if setting.kind == "texts" else "not,right",
    }
    if setting.name == "database.dsn_file":
        del environ["DATASTORE_DUMPER_DATABASE__DSN"]
    message = refusal(None, environ)
    assert message.startswith(f"environment variable {setting.variable}: {setting.name} must be ")


@pytest.mark.parametrize("setting", settings().values(), ids=lambda s: s.name)
def test_empty_variable_is_refused(setting: Setting) -> None:
    message = refusal(None, {**MINIMAL, setting.variable: ""})
    assert message.startswith(f"environment variable {setting.variable}: {setting.name} is empty\n")


@pytest.mark.parametrize("setting", [s for s in settings().values() if len(s.path) > 1], ids=lambda s: s.name)
def test_single_underscores_are_answered_with_the_right_name(setting: Setting) -> None:
    variable = f"DATASTORE_DUMPER_{'_'.join(setting.path).upper()}"
    message = refusal(None, {**MINIMAL, variable: "1"})
    assert message.startswith(f"environment variable {variable}: sets nothing: ")
    assert f"Did you mean {setting.variable}?" in message


def test_unknown_variable_unlike_any_setting() -> None:
    message = refusal(None, {**MINIMAL, "DATASTORE_DUMPER_XYZZY": "1"})
    assert "Names are DATASTORE_DUMPER_<SECTION>__<KEY>." in message


def test_variables_of_others_are_left_alone() -> None:
    others = {
        CONFIG_FILE_VARIABLE: "/etc/x.yaml",
        "PGPASSWORD": "x",
        "datastore_dumper_lease__ttl": "1",
        # a Kubernetes service named datastore-dumper with one port named metrics
        "DATASTORE_DUMPER_SERVICE_HOST": "10.0.0.1",
        "DATASTORE_DUMPER_SERVICE_PORT": "9187",
        "DATASTORE_DUMPER_SERVICE_PORT_METRICS": "9187",
        "DATASTORE_DUMPER_PORT": "tcp://10.0.0.1:9187",
        "DATASTORE_DUMPER_PORT_9187_TCP": "tcp://10.0.0.1:9187",
        "DATASTORE_DUMPER_PORT_9187_TCP_ADDR": "10.0.0.1",
    }
    assert load_config(None, {**MINIMAL, **others}) == load_config(None, MINIMAL)


@pytest.mark.parametrize("text", ["true", "True", "yes", "ON", "1", "false", "No", "off", "0"])
def test_booleans_in_the_environment(text: str) -> None:
    config = load_config(None, {**MINIMAL, "DATASTORE_DUMPER_CKAN__MS_IN_TIMESTAMP": text})
    assert config.ckan.ms_in_timestamp is (text.lower() in ("true", "yes", "on", "1"))


@pytest.mark.parametrize("text", ["010", "1_0", "0x10", "1:30", "1e400", "nan", "inf", "١٢", "", " ", "--1", "1" * 400])
def test_numbers_that_are_none(text: str) -> None:
    variable = "DATASTORE_DUMPER_LEASE__TTL_SECONDS"
    assert refusal(None, {**MINIMAL, variable: text}).startswith(f"environment variable {variable}: lease.ttl_seconds ")


@given(st.floats(min_value=2, max_value=3600))
def test_numbers_survive_as_text(number: float) -> None:
    config = load_config(None, {**MINIMAL, "DATASTORE_DUMPER_LEASE__TTL_SECONDS": str(number)})
    assert config.lease.ttl_seconds == number


def test_precedence(tmp_path: Path) -> None:
    file = tmp_path / "dumper.yaml"
    file.write_text(render({**valid_values(), ("lease", "ttl_seconds"): "11"}).text, encoding="utf-8")
    environ = {"DATASTORE_DUMPER_LEASE__TTL_SECONDS": "12"}
    assert load_config(None, MINIMAL).lease.ttl_seconds == 20
    assert load_config(file, {}).lease.ttl_seconds == 11
    loaded = load(file, environ)
    assert loaded.config.lease.ttl_seconds == 12
    assert loaded.sources["lease.ttl_seconds"] == "environment variable DATASTORE_DUMPER_LEASE__TTL_SECONDS"


def test_a_wrong_value_that_is_overridden_does_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "dumper.yaml"
    file.write_text(render({**valid_values(), ("log", "level"): "loud"}).text, encoding="utf-8")
    assert load_config(file, {"DATASTORE_DUMPER_LOG__LEVEL": "debug"}).log.level == "debug"


def test_what_lacks_is_looked_for_in_the_file_first(tmp_path: Path) -> None:
    file = tmp_path / "dumper.yaml"
    file.write_text("storage:\n  type: s3\n  s3:\n    region: x\n", encoding="utf-8")
    environ = {**MINIMAL, "DATASTORE_DUMPER_STORAGE__TYPE": "s3", "DATASTORE_DUMPER_STORAGE__S3__REGION": "y"}
    assert refusal(file, environ).startswith(f"{file}, line 4, column 5: storage.s3.bucket is missing\n")
    assert refusal(None, environ).startswith(
        "environment variable DATASTORE_DUMPER_STORAGE__S3__REGION: storage.s3.buck"
    )


def test_nothing_given_at_all() -> None:
    message = refusal(None, {})
    assert message.startswith("configuration: database.dsn is missing\nSet it in the file or as ")
    assert "database.dsn_file" in message


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_secret_file(tmp_path: Path, end: str) -> None:
    secret = tmp_path / "dsn"
    secret.write_bytes(b"host=h password=' x '" + end.encode())
    environ = {**MINIMAL, "DATASTORE_DUMPER_DATABASE__DSN_FILE": str(secret)}
    del environ["DATASTORE_DUMPER_DATABASE__DSN"]
    loaded = load(None, environ)
    assert loaded.config.database.dsn.get_secret_value() == "host=h password=' x '"
    assert loaded.sources["database.dsn"].startswith(f"{secret}, named by database.dsn_file in environment variable ")
    assert loaded.files == {"database.dsn": secret}


def test_secret_file_is_a_credential(tmp_path: Path) -> None:
    (tmp_path / "dumper-dsn").write_text("postgresql://h/from-credential\n", encoding="utf-8")
    named = variables({"database.dsn_file": "dumper-dsn", "storage.type": "disk", "storage.disk.directory": "/x"})
    environ = {**named, "CREDENTIALS_DIRECTORY": str(tmp_path)}
    config = load_config(None, environ)
    assert config.database.dsn.get_secret_value() == "postgresql://h/from-credential"
    assert "must be an absolute path or a credential's name" in refusal(None, named)
    outside = {**environ, **variables({"database.dsn_file": "../x/dumper-dsn"})}
    assert "absolute path or a cred" in refusal(None, outside)


def test_secret_given_in_both_ways() -> None:
    message = refusal(None, {**MINIMAL, "DATASTORE_DUMPER_DATABASE__DSN_FILE": "/x"})
    assert "database.dsn and database.dsn_file are both set\nRemove one of them." in message


def test_secret_left_empty_beside_its_file(tmp_path: Path) -> None:
    secret = tmp_path / "dsn"
    secret.write_text("postgresql://h/d", encoding="utf-8")
    file = tmp_path / "dumper.yaml"
    file.write_text(f"database:\n  dsn:\n  dsn_file: {secret}\n", encoding="utf-8")
    config = load_config(file, variables({"storage.type": "disk", "storage.disk.directory": "/x"}))
    assert config.database.dsn.get_secret_value() == "postgresql://h/d"


def test_secret_of_the_source_with_precedence_wins(tmp_path: Path) -> None:
    secret = tmp_path / "dsn"
    secret.write_text("postgresql://h/from-secret-file", encoding="utf-8")
    file = tmp_path / "dumper.yaml"
    file.write_text(render(valid_values()).text, encoding="utf-8")
    config = load_config(file, {"DATASTORE_DUMPER_DATABASE__DSN_FILE": str(secret)})
    assert config.database.dsn.get_secret_value() == "postgresql://h/from-secret-file"
    file.write_text("database: {dsn_file: /not/even/there}\n", encoding="utf-8")
    config = load_config(file, MINIMAL)
    assert config.database.dsn.get_secret_value() == "postgresql://h/d"
    assert config.database.dsn_file is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        (b"", "empty"),
        (b" \n", "empty"),
        (b"\xff", "not UTF-8 text"),
        (b"x" * 70_000, "longer than 65536 bytes"),
    ],
    ids=["missing", "empty", "blank", "binary", "long"],
)
@pytest.mark.parametrize("name", ["database.dsn_file", "storage.s3.secret_key_file"])
def test_secret_file_that_cannot_be_taken(tmp_path: Path, name: str, content: bytes | None, reason: str) -> None:
    secret = tmp_path / "secret"
    if content is not None:
        secret.write_bytes(content)
    variable = settings()[tuple(name.split("."))].variable
    environ = {**MINIMAL, "DATASTORE_DUMPER_STORAGE__S3__BUCKET": "dumps", variable: str(secret)}
    if name == "database.dsn_file":
        del environ["DATASTORE_DUMPER_DATABASE__DSN"]
    message = refusal(None, environ)
    assert message.startswith(f"environment variable {variable}: {name}: cannot take {secret}: {reason}\n")


def test_secret_file_is_a_directory(tmp_path: Path) -> None:
    message = refusal(None, variables({"database.dsn_file": str(tmp_path)}))
    assert f"database.dsn_file: cannot take {tmp_path}: Is a directory" in message


def test_storage_settings(tmp_path: Path) -> None:
    disk = load_config(None, MINIMAL)
    assert storage_settings(disk) == DiskSettings(directory=Path("/x"))
    file = tmp_path / "dumper.yaml"
    values = {**valid_values(), ("storage", "type"): "s3", ("storage", "s3", "public_secure"): "false"}
    file.write_text(render(values).text, encoding="utf-8")
    s3 = storage_settings(load_config(file, {}))
    assert isinstance(s3, S3Settings)
    for path, setting in settings().items():
        if path[:2] == ("storage", "s3") and path[-1] not in ("secret_key_file", "public_secure"):
            given = getattr(s3, path[-1])
            assert (str(given) if path[-1] == "ca_file" else given) == setting.example
    assert s3.public_secure is False


def test_storage_settings_of_a_role(tmp_path: Path) -> None:
    environ = {**MINIMAL, "DATASTORE_DUMPER_STORAGE__TYPE": "s3", "DATASTORE_DUMPER_STORAGE__S3__BUCKET": "dumps"}
    assert storage_settings(load_config(None, environ)) == S3Settings(
        endpoint="s3.amazonaws.com", bucket="dumps", prefix="datastore-dumps"
    )
