"""No secret is in a message, a traceback's chain or a repr, however wrong the configuration is."""

from __future__ import annotations

import json
import traceback
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from datastore_dumper.config import Config, load, load_config
from datastore_dumper.config.fields import Setting
from datastore_dumper.config.fields import settings as all_settings
from datastore_dumper.errors import ConfigError
from tests.config.render import refusal, render, valid_values

SECRET = "hunter2"
SECRETS = [setting for setting in all_settings().values() if setting.secret]
FORMS = [
    form.replace("$", SECRET)
    for form in (
        *("$", '"$"', "*$", "&$ 1", "!$ x", "!$!x y", "!!$ x", "[$]", "{$: x}", "%$", "@$", "x: $", '"$', "'$' x"),
        *("'$\\q", '"$\\q"', "| $", "[$", "- $", '"$\\0"', "postgresql://u:$@h:port/d", "postgresql://u:$%zz@h/d"),
        *("postgresql://u:x@$@h/d", "postgresql://u:x/$@h/d", "postgresql://u:x@$@h,i/d"),
        *("host=h password='$", "host=h $=x", "host=h password=a $", "postgresql://h/d?$=1"),
        *("postgresql://h/d?password=$&x", "{password: $}", "? $", "<<: $", "*$ *$", "$: $: $", "\t$", "`$`"),
    )
]


def everything_shown(error: BaseException) -> str:
    return "".join(traceback.TracebackException.from_exception(error, capture_locals=False).format(chain=True))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("setting", SECRETS, ids=lambda setting: setting.name)
def test_wrong_file(tmp_path: Path, setting: Setting, form: str) -> None:
    file = tmp_path / "dumper.yaml"
    # Something else is wrong too, so that every form ends in a message.
    values = {**valid_values(), setting.path: form, ("log", "level"): "loud"}
    file.write_text(render(values).text, encoding="utf-8")
    assert SECRET not in refusal(file)
    with pytest.raises(ConfigError) as caught:
        load_config(file, {})
    assert SECRET not in everything_shown(caught.value)


@pytest.mark.parametrize("number", ["87654321", "8765.4321", "08765432", "8_7654_321", "8765-04-21"])
@pytest.mark.parametrize("setting", SECRETS, ids=lambda setting: setting.name)
def test_secret_that_yaml_takes_for_a_number(tmp_path: Path, setting: Setting, number: str) -> None:
    file = tmp_path / "dumper.yaml"
    file.write_text(render({**valid_values(), setting.path: number, ("log", "level"): "loud"}).text, encoding="utf-8")
    message = refusal(file)
    assert number not in message
    assert number.replace("_", "") not in message


def test_the_models_own_errors_show_none() -> None:
    with pytest.raises(ValidationError) as caught:
        Config.model_validate({"database": {"dsn": SECRET, "dsn_file": 3}, "storage": {"s3": {"secret_key": [SECRET]}}})
    assert SECRET not in str(caught.value)


def refused_text(where: str, setting: Setting, text: str, tmp_path: Path) -> str:
    wrong = {"DATASTORE_DUMPER_LOG__LEVEL": "loud"}
    if where == "environment":
        return refusal(None, {**wrong, setting.variable: text})
    if where == "secret file":
        (tmp_path / "secret").write_text(text, encoding="utf-8")
        return refusal(None, {**wrong, "DATASTORE_DUMPER_DATABASE__DSN_FILE": str(tmp_path / "secret")})
    (tmp_path / "dumper.yaml").write_text(render({setting.path: json.dumps(text)}).text, encoding="utf-8")
    return refusal(tmp_path / "dumper.yaml", wrong)


@pytest.mark.parametrize("where", ["environment", "secret file", "file"])
@given(
    setting=st.sampled_from(SECRETS),
    before=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
    after=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text(where: str, setting: Setting, before: str, after: str, tmp_path: Path) -> None:
    assert SECRET not in refused_text(where, setting, f"{before}{SECRET}{after}", tmp_path)


def test_loaded_configuration_shows_none(tmp_path: Path) -> None:
    file = tmp_path / "dumper.yaml"
    values = valid_values() | {s.path: f'"{SECRET}"' for s in SECRETS}
    for name in ("dsn", "replica_dsn"):
        values["database", name] = f'"postgresql://u:{SECRET}@h/d"'
    values["monitor", "heartbeat_url"] = f'"https://h/{SECRET}"'
    file.write_text(render(values).text, encoding="utf-8")
    loaded = load(file, {})
    assert loaded.config.database.dsn.get_secret_value() == f"postgresql://u:{SECRET}@h/d"
    for shown in (repr(loaded), str(loaded.config), loaded.config.model_dump_json(), repr(loaded.config.model_dump())):
        assert SECRET not in shown


def test_every_secret_is_typed_as_one() -> None:
    assert {setting.name for setting in SECRETS} == {
        "database.dsn",
        "database.replica_dsn",
        "monitor.heartbeat_url",
        "storage.s3.secret_key",
        "storage.s3.session_token",
    }
