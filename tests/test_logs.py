"""Logging: JSON lines, text for people, the standard library's records, and what must never be in any of them."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from datastore_dumper.logs import LogFormat, LogLevel, configure_logging, get_logger, mask_text

SECRET = "hunter2"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def configured(format: LogFormat = "json", level: LogLevel = "info", terminal: bool = False) -> io.StringIO:
    stream = Terminal() if terminal else io.StringIO()
    configure_logging(format, level, stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_line() -> None:
    stream = configured()
    get_logger("datastore_dumper.publish").info("dump_published", resource_id="ü\n\u2028{}", rows=3, key=None, ok=True)
    assert len(stream.getvalue().splitlines()) == 1
    (line,) = lines(stream)
    assert list(line)[:4] == ["timestamp", "level", "event", "logger"]
    assert line["timestamp"].endswith("Z")
    age = datetime.now(timezone.utc) - datetime.fromisoformat(line["timestamp"].replace("Z", "+00:00"))
    assert timedelta(0) <= age < timedelta(minutes=1)
    assert {key: line[key] for key in line if key != "timestamp"} == {
        "level": "info",
        "event": "dump_published",
        "logger": "datastore_dumper.publish",
        "resource_id": "ü\n\u2028{}",
        "rows": 3,
        "key": None,
        "ok": True,
    }


def test_bound_and_context_values() -> None:
    stream = configured()
    structlog.contextvars.bind_contextvars(daemon="d1")
    get_logger("x").bind(table=7).warning("export_failed")
    (line,) = lines(stream)
    assert (line["daemon"], line["table"], line["level"]) == ("d1", 7, "warning")


def test_library_records_come_the_same_way() -> None:
    stream = configured()
    logging.getLogger("urllib3.pool").warning("retry %d of %s", 3, "host", extra={"attempt": 2})
    (line,) = lines(stream)
    assert (line["event"], line["logger"], line["level"]) == ("retry 3 of host", "urllib3.pool", "warning")
    assert line["attempt"] == 2
    assert line["timestamp"].endswith("Z")


def test_python_warnings_are_logged() -> None:
    stream = configured()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        # catch_warnings puts the plain showwarning back when it ends, captureWarnings' one is the one in force here
        warnings.warn("old way", DeprecationWarning, stacklevel=1)
    (line,) = lines(stream)
    assert line["logger"] == "py.warnings"
    assert "DeprecationWarning: old way" in line["event"]


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_level(level: LogLevel) -> None:
    stream = configured(level=level)
    for name in ("debug", "info", "warning", "error"):
        getattr(get_logger("x"), name)(name)
        getattr(logging.getLogger("lib"), name)(name)
    order = ["debug", "info", "warning", "error"]
    expected = [name for name in order[order.index(level) :] for _ in range(2)]
    assert [line["event"] for line in lines(stream)] == expected


def test_the_last_call_counts() -> None:
    first, second = configured(), configured()
    get_logger("x").info("once")
    assert first.getvalue() == ""
    assert len(lines(second)) == 1


@pytest.mark.parametrize("own", [True, False])
def test_exceptions_are_data_without_local_variables(own: bool) -> None:
    stream = configured()

    def fail(row: str) -> None:
        try:
            raise KeyError("cause")
        except KeyError as error:
            raise OSError("disk full") from error

    try:
        fail("a row of the table")
    except OSError:
        (get_logger("x") if own else logging.getLogger("x")).exception("write_failed")
    (line,) = lines(stream)
    assert [(part["exc_type"], part["exc_value"]) for part in line["exception"]] == [
        ("OSError", "disk full"),
        ("KeyError", "'cause'"),
    ]
    assert line["exception"][0]["frames"][-1]["name"] == "fail"
    assert "a row of the table" not in stream.getvalue()


@pytest.mark.parametrize(
    ("format", "terminal", "no_color", "is_json", "coloured"),
    [
        ("auto", False, "", True, False),
        ("auto", True, "", False, True),
        ("auto", True, "1", False, False),
        ("console", False, "", False, False),
        ("console", True, "", False, True),
        ("json", True, "", True, False),
    ],
)
def test_format_and_colours(
    monkeypatch: pytest.MonkeyPatch, format: LogFormat, terminal: bool, no_color: str, is_json: bool, coloured: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    stream = configured(format, terminal=terminal)
    get_logger("x").info("started", version="1")
    text = stream.getvalue()
    assert text.startswith("{") is is_json
    assert ("\x1b[" in text) is coloured
    assert "started" in text


def test_console_shows_tracebacks() -> None:
    stream = configured("console")
    try:
        raise OSError("disk full")
    except OSError:
        get_logger("x").exception("write_failed", resource_id="r")
    assert "write_failed" in stream.getvalue()
    assert "resource_id=r" in stream.getvalue()
    assert stream.getvalue().rstrip().endswith("OSError: disk full")


class Showing:
    def __str__(self) -> str:
        return f"postgresql://u:{SECRET}@h/d"

    __repr__ = __str__


VALUES = [
    f"postgresql://u:{SECRET}@h/d",
    f"postgresql://u:a@{SECRET}@h/d",
    f"postgresql://h/d?user=x&password={SECRET}",
    f"host=h password={SECRET} dbname=d",
    f"host=h password='x y {SECRET}'",
    f"host=h password = 'it\\'s {SECRET}'",
    f"host=h password=a\\ {SECRET}",
    f"host=h sslpassword={SECRET}",
    f"{{'password': '{SECRET}', 'host': 'h'}}",
    f'{{"secret_key": "x\\"{SECRET}"}}',
    f"https://s3/b/k?X-Amz-Algorithm=a&X-Amz-Signature={SECRET}&x=y",
    f"https://s3/b/k?X-Amz-Security-Token={SECRET}",
    f"AWS_SESSION_TOKEN={SECRET}",
    f"s3.secret_key={SECRET}",
    ValueError(f"password={SECRET}"),
    Showing(),
    [Showing()],
    {"nested": [{"deep": (f"token={SECRET}",)}]},
    {"PGPASSWORD": SECRET},
    {"secret_key": SECRET},
    {f"postgresql://u:{SECRET}@h/d": 1},
    f"password={SECRET}".encode(),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("format", ["json", "console"])
def test_secrets_are_masked_everywhere(format: LogFormat, value: object) -> None:
    stream = configured(format, "debug")
    log = get_logger("x")
    log.info("event", value=value)
    log.info(f"event {value}")
    log.info("event %s", value)
    logging.getLogger("lib").info("message %s", value, extra={"value": value})
    try:
        raise RuntimeError(value)
    except RuntimeError:
        log.exception("failed")
        logging.getLogger("lib").exception("failed")
    try:
        raise OSError("outer") from ValueError(str(value))
    except OSError as error:
        log.error("failed", exc_info=error)
    assert SECRET not in stream.getvalue()
    assert stream.getvalue().count("***") >= 7


@pytest.mark.parametrize(
    "key", ["password", "db_password", "PASSWORD", "secret", "secret_key", "token", "session_token", "dsn"]
)
def test_keys_that_name_secrets(key: str) -> None:
    stream = configured()
    get_logger("x").info("event", **{key: SECRET})
    assert lines(stream)[0][key] == "***"


def test_harmless_values_stay() -> None:
    stream = configured()
    harmless = {
        "secret_key_file": "/run/credentials/x",
        "storage_key": "prefix/id/1/id.csv",
        "url": "https://host:443/path?x=1",
        "text": "the password is wrong",
        "dsn": None,
        "tokens_seen": 3,
        "address": "user@example.org",
    }
    get_logger("x").info("event", **harmless)
    assert {key: lines(stream)[0][key] for key in harmless} == harmless


@given(password=st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1), after=st.text())
def test_masked_uri_does_not_depend_on_the_password(password: str, after: str) -> None:
    shown = mask_text(f"postgresql://user:{password}@host/d")
    assert shown == "postgresql://user:***@host/d"
    assert mask_text(f"password='{SECRET}' {after}").startswith("password=*** ")
