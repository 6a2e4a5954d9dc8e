"""`datastore-dumper status`: each state as it comes about, as text, as JSON, and live at a terminal."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest
from rich.console import Console
from rich.progress import TextColumn

from datastore_dumper.cli.dump import _report
from datastore_dumper.cli.show import bars, shown_seconds
from datastore_dumper.cli.status import _json
from datastore_dumper.cli.status_view import details, listing, watched
from datastore_dumper.dumping import Outcome, Wanted
from datastore_dumper.errors import EXIT_FAILURE, EXIT_UNAVAILABLE, EXIT_USAGE
from datastore_dumper.status import ExportStatus, FileStatus, Overview, TableStatus, state_of
from datastore_dumper.words import shown_bytes
from tests.cli.conftest import at_terminal, command
from tests.support.daemon import Dumper
from tests.support.datastore import create_table
from tests.support.waiting import eventually

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
LATER = NOW + timedelta(seconds=30)


def file(fresh: bool) -> FileStatus:
    return FileStatus("csv", 1, 1, "2.12", NOW, NOW, 1.0, "key", fresh)


@pytest.mark.parametrize(
    ("expected", "known"),
    [
        ("exporting", {"exporting": True, "attempts": 3, "due": NOW}),
        ("failing", {"attempts": 1, "due": LATER}),
        ("due", {"due": NOW}),
        ("waiting", {"due": LATER}),
        ("fresh", {"files": (file(True), file(True))}),
        ("fresh", {"failed": 1}),
        ("stale", {"files": (file(True), file(False))}),
        ("stale", {}),
    ],
)
def test_states(expected: str, known: dict[str, Any]) -> None:
    given = {"exporting": False, "attempts": 0, "due": None, "files": (), "failed": 0, **known}
    assert state_of(now=NOW, **given) == expected


def look(dumper: Dumper, *arguments: str, **sections: Any) -> dict[str, Any]:
    done = command(dumper.write_config(**sections), "status", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return {**report, "tables": {table["resource_id"]: table for table in report["tables"]}}


def test_each_state_as_it_comes_about(dumper: Dumper, writer: psycopg.Connection) -> None:
    writer.execute("INSERT INTO t (a) VALUES ('x')")
    table = look(dumper, debounce={"quiet_seconds": 600, "max_delay_seconds": 600})["tables"]["t"]
    assert (table["state"], table["files"], table["changes"]) == ("waiting", [], 2)
    assert datetime.fromisoformat(table["due_at"]) > datetime.fromisoformat(table["pending_since"])
    assert look(dumper, debounce={"quiet_seconds": 0, "max_delay_seconds": 0})["counts"]["due"] == 1
    assert dumper.once() == 0
    report = look(dumper)
    assert report["counts"] == {
        "exporting": 0,
        "failing": 0,
        "due": 0,
        "waiting": 0,
        "stale": 0,
        "fresh": 1,
        "unkept": 0,
    }
    table = report["tables"]["t"]
    assert [(each["format"], each["rows"], each["fresh"]) for each in table["files"]] == [
        ("csv", 1, True),
        ("csv-bom", 1, True),
    ]
    writer.execute("VACUUM FULL t")
    assert look(dumper)["counts"]["stale"] == 1
    with dumper.database.connect() as admin:
        admin.execute("REVOKE SELECT ON t FROM dumper")
        assert dumper.once() == 1
    table = look(dumper)["tables"]["t"]
    assert (table["state"], table["attempts"]) == ("failing", 1)
    assert "permission denied" in table["error"]


def test_an_export_under_way(dumper: Dumper, writer: psycopg.Connection) -> None:
    with dumper.database.connect() as admin:
        admin.execute(
            "UPDATE datastore_dumper.resource SET lease_owner = 'somebody', lease_until = now() + interval '1 min', "
            "exporting_since = now() - interval '10 s', exported_rows = 5000, expected_rows = 10000"
        )
    table = look(dumper)["tables"]["t"]
    assert table["state"] == "exporting"
    assert {key: table["export"][key] for key in ("owner", "rows", "expected_rows")} == {
        "owner": "somebody",
        "rows": 5000,
        "expected_rows": 10000,
    }
    text = command(dumper.write_config(), "status").stdout
    found = re.search(r"50 %, (\d+)/s, (\d+) s left", text)
    assert found is not None, text
    assert abs(int(found[1]) * int(found[2]) - 5000) <= 500, "as many rows are left as are done"


def test_an_export_that_was_asked_for(dumper: Dumper, writer: psycopg.Connection) -> None:
    assert dumper.once() == 0
    writer.execute("SELECT datastore_dumper.request('t', false)")
    table = look(dumper)["tables"]["t"]
    assert (table["state"], table["changes"], table["pending_since"]) == ("due", 0, None)
    assert table["requested_at"] is not None
    assert "asked for" in command(dumper.write_config(), "status").stdout


def test_a_name_that_is_none(dumper: Dumper, writer: psycopg.Connection) -> None:
    done = command(dumper.write_config(), "status", "nobody")
    assert done.returncode == EXIT_FAILURE
    assert "There is no DataStore table nobody" in done.stderr


def test_freshness_of_those_named_is_what_ckan_is_told(dumper: Dumper, writer: psycopg.Connection) -> None:
    """A comment leaves no change row where there are no event triggers, and the quick look does not compare columns."""
    assert dumper.once() == 0
    with dumper.database.connect() as admin:
        admin.execute("DROP EVENT TRIGGER datastore_dumper_ddl")
    writer.execute("COMMENT ON COLUMN t.a IS 'other'")
    assert look(dumper, "t")["tables"]["t"]["state"] == "stale"


def test_text(dumper: Dumper, writer: psycopg.Connection) -> None:
    create_table(writer, "other", {"a": "text"})
    assert dumper.once() == 0
    writer.execute("INSERT INTO t (a) VALUES ('x')")
    config = dumper.write_config(debounce={"quiet_seconds": 600, "max_delay_seconds": 600})
    text = command(config, "status").stdout
    assert text.splitlines()[0].split("   ") == ["2 tables", "1 waiting", "1 fresh", "no daemon is connected"]
    assert "due in 10 min" in text
    assert "other" not in text
    assert "\x1b" not in text
    assert "other" in command(config, "status", "--all").stdout
    detail = command(config, "status", "t").stdout
    assert "csv-bom" in detail
    assert "(1 change row)" in detail


def table_status(**known: Any) -> TableStatus:
    given: dict[str, Any] = {
        "relid": 1, "resource_id": "0b5e4a8c-2d2f-5c3e-9c6f-111111111111", "state": "failing", "estimated_rows": 7,
        "changes": 1, "pending_since": NOW, "requested_at": None, "due_at": NOW, "attempts": 3, "error": "why " * 40,
        "export": None, "files": (file(True),), **known,
    }  # fmt: skip
    return TableStatus(**given)


@pytest.mark.parametrize("width", [60, 80, 132])
def test_every_table_has_one_line_while_watching(width: int) -> None:
    exporting = table_status(state="exporting", export=ExportStatus("x", NOW - timedelta(seconds=9), 10, 20))
    found = Overview(NOW, (exporting, *[table_status()] * 30))
    with io.StringIO() as output:
        Console(file=output, width=width).print(watched(found, width, 24, "the note"))
        lines = output.getvalue().splitlines()
    assert len(lines) <= 24
    assert lines[-1].strip() == "the note"
    assert sum("0b5e4a8c" in line for line in lines) == 19
    assert ("ROWS" in lines[2]) == (width > 118)
    assert all(len(line) <= width for line in lines)
    assert sum("failing" in line for line in lines) == 19, "its summary, and all tables but one"


def test_names_do_not_move_the_cursor(dumper: Dumper, writer: psycopg.Connection) -> None:
    """A table's name is any text, and whoever may make tables is not who looks at the terminal."""
    name = "a\x1b[2Jb\nfresh"
    create_table(writer, name, {"a": "text"})
    for arguments in (("status",), ("status", name), ("dump", name), ("verify", name)):
        done = command(dumper.write_config(), *arguments)
        assert "\x1b" not in done.stdout + done.stderr
        assert "a?[2Jb?fresh" in done.stdout + done.stderr or arguments[0] == "verify"


@pytest.mark.parametrize("arguments", [("check",), ("check", "--nagios"), ("status",)], ids=" ".join)
def test_errors_do_not_move_the_cursor(dumper: Dumper, writer: psycopg.Connection, arguments: tuple[str, ...]) -> None:
    create_table(writer, "a\x1b[2Jb\nfresh", {"a": "text"})
    with dumper.database.connect() as admin:
        admin.execute("UPDATE datastore_dumper.resource SET attempts = 1, last_error = %s", ["why\x1b[2J"])
    done = command(dumper.write_config(), *arguments)
    assert "\x1b" not in done.stdout
    assert "why?[2J" in done.stdout
    assert arguments[0] == "status" or "a?[2Jb fresh" in done.stdout


def test_reasons_do_not_move_the_cursor() -> None:
    table = table_status(state="unkept", choice="excluded", choice_detail="has \x1b[2J", attempts=0, error=None)
    found = Overview(NOW, (table,))
    with io.StringIO() as output:
        console = Console(file=output, width=132)
        console.print(details(found))
        console.print(listing(found, [table], width=132))
        text = output.getvalue()
    assert "\x1b" not in text
    assert text.count("no files are kept: has ?[2J") == 2


def test_names_are_no_markup() -> None:
    """Square brackets with a slash would be the end of a style that never began."""
    with bars("rows") as progress:
        progress.add_task("a[/b]")
        column = progress.columns[0]
        assert isinstance(column, TextColumn)
        assert column.render(progress.tasks[0]).plain == "a[/b]"


def test_no_secret_is_in_json() -> None:
    table = table_status(error="refused: password=hush", failures={"xml": "postgresql://u:hush@h/d"})
    assert "hush" not in _json(Overview(NOW, (table,)), None)
    assert _report(Outcome(Wanted(1, "t"), None), table)["failures"] == {"xml": "postgresql://u:***@h/d"}


def test_no_tables(dumper: Dumper, writer: psycopg.Connection) -> None:
    writer.execute("DROP TABLE t")
    done = command(dumper.write_config(), "status")
    assert (done.returncode, done.stdout) == (0, "0 tables   no daemon is connected\n")
    counts = dict.fromkeys(look(dumper)["counts"], 0)
    assert look(dumper) == {"now": None, "daemons": 0, "counts": counts, "tables": {}}


def test_whether_a_daemon_is_there(dumper: Dumper, writer: psycopg.Connection) -> None:
    assert dumper.once() == 0
    assert "no daemon" in command(dumper.write_config(), "status").stdout
    with dumper.running():
        eventually(lambda: look(dumper)["daemons"] == 1)
        assert "no daemon" not in command(dumper.write_config(), "status").stdout


def test_watching(dumper: Dumper, writer: psycopg.Connection) -> None:
    assert dumper.once() == 0
    config = dumper.write_config(debounce={"quiet_seconds": 600, "max_delay_seconds": 600})
    with at_terminal(config, "status", "--watch", "--interval", "0.1") as terminal:
        terminal.wait_for("1 fresh")
        writer.execute("INSERT INTO t (a) VALUES ('x')")
        terminal.wait_for("1 waiting")
        assert b"\x1b[?1049h" in terminal.output
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(90) == 0
        eventually(lambda: b"\x1b[?1049l" in terminal.output)
    with dumper.database.connect() as admin:
        eventually(
            lambda: (
                admin.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'datastore-dumper status'"
                ).fetchone()
                == (0,)
            )
        )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_watching_ends_as_well_when_it_is_terminated(
    dumper: Dumper, writer: psycopg.Connection, number: signal.Signals
) -> None:
    with at_terminal(dumper.write_config(), "status", "--watch") as terminal:
        terminal.wait_for("1049h")
        terminal.process.send_signal(number)
        assert terminal.process.wait(90) == 128 + number
        eventually(lambda: b"\x1b[?1049l" in terminal.output)


def test_watching_goes_on_when_postgres_ends_the_session(dumper: Dumper, writer: psycopg.Connection) -> None:
    with at_terminal(dumper.write_config(), "status", "--watch", "--interval", "0.1") as terminal:
        terminal.wait_for("1 due")
        with dumper.database.connect() as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'datastore-dumper status' AND datname = current_database()"
            )
        assert dumper.once() == 0
        terminal.wait_for("1 fresh")


@pytest.mark.parametrize("no_color", [True, False])
def test_colours(dumper: Dumper, writer: psycopg.Connection, no_color: bool) -> None:
    with at_terminal(dumper.write_config(), "status", NO_COLOR="1" if no_color else "") as terminal:
        assert terminal.process.wait(90) == 0
        terminal.wait_for("1 due")
    assert (b"\x1b[33m" in terminal.output) != no_color


def test_a_reader_that_has_enough(dumper: Dumper, writer: psycopg.Connection) -> None:
    """`datastore-dumper status --json | head -1`."""
    for number in range(300):
        create_table(writer, f"t{number}", {"a": "text"})
    with subprocess.Popen(
        [sys.executable, "-m", "datastore_dumper", "status", "--json", "-c", str(dumper.write_config())],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(90) in (0, 1)  # as that release of click has it


def test_watching_wants_a_terminal(dumper: Dumper, writer: psycopg.Connection) -> None:
    done = command(dumper.write_config(), "status", "--watch")
    assert done.returncode == EXIT_USAGE
    assert "terminal" in done.stderr


def test_postgres_away(dumper: Dumper) -> None:
    done = command(dumper.write_config(database={"dsn": "postgresql://u@127.0.0.1:1/x"}), "status")
    assert done.returncode == EXIT_UNAVAILABLE


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (19 * 1024**3 / 10, "1.9 GiB"),
        (5 * 1024**4, "5.0 TiB"),
        (1 << 60, "1048576.0 TiB"),
    ],
)
def test_bytes(count: float, shown: str) -> None:
    assert shown_bytes(count) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2.0 h"), (48 * 3600, "2 d")]
)
def test_seconds(seconds: float, shown: str) -> None:
    assert shown_seconds(seconds) == shown


def test_tables_that_get_no_files(dumper: Dumper, writer: psycopg.Connection) -> None:
    tables = {"min_rows": 5}
    writer.execute("INSERT INTO t (a) VALUES ('x')")
    assert dumper.once(tables=tables) == 0
    report = look(dumper)
    assert (report["counts"]["unkept"], report["counts"]["stale"], report["counts"]["failing"]) == (1, 0, 0)
    table = report["tables"]["t"]
    assert (table["choice"], table["choice_detail"]) == ("too_small", "1 row: tables.min_rows is 5")
    path = dumper.write_config(tables=tables)
    assert command(path, "status").stdout == "1 table   1 unkept   no daemon is connected\n"
    assert "no files are kept: 1 row: tables.min_rows is 5" in command(path, "status", "--all").stdout
    assert "no files are kept: 1 row: tables.min_rows is 5" in command(path, "status", "t").stdout
    done = command(path, "dump", "t")
    assert (done.returncode, done.stdout) == (0, "t: no files are kept: 1 row: tables.min_rows is 5\n")
