"""Records `status --watch` of a real daemon at work as docs/images/status.svg: `python -m docs.images.record_status`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import yaml
from rich.console import Console
from rich.terminal_theme import MONOKAI

from datastore_dumper.cli.status_view import watched
from datastore_dumper.database import Database
from datastore_dumper.due import Debounce
from datastore_dumper.install import install
from datastore_dumper.status import Overview, overview
from docs.images.record import FORMAT
from tests.support.daemon import DaemonProcess
from tests.support.datastore import create_table, prepare_datastore
from tests.support.installation import ROLES
from tests.support.postgres import Connection, ScratchDatabase, running_server
from tests.support.waiting import eventually

_DEBOUNCE = Debounce(30, 600)
_TABLES = 14
_LARGE_ROWS = 3_000_000
_WIDTH, _HEIGHT = 132, 22


def main() -> None:
    with running_server() as server, server.new_database("picture") as name, tempfile.TemporaryDirectory() as directory:
        database = ScratchDatabase(server, name)
        with database.connect() as admin, database.connect("ckan_write") as writer:
            prepare_datastore(admin)
            ids = [str(uuid5(NAMESPACE_URL, f"https://portal.example.org/resource/{n}")) for n in range(_TABLES)]
            for number, resource_id in enumerate(ids):
                create_table(writer, resource_id, {"station": "text", "measured": "timestamp", "value": "numeric"})
                _fill(writer, resource_id, _LARGE_ROWS if number == 0 else 400 * (number + 3) ** 2)
            install(Database(database.dsn), ROLES)
            with (
                DaemonProcess.start(_config(Path(directory), database)) as daemon,
                Database(database.dsn_for("dumper")).connect("status") as connection,
            ):
                for resource_id in ids:
                    daemon.wait_for("published", resource_id=resource_id, timeout_seconds=300)
                admin.execute(f'REVOKE SELECT ON "{ids[1]}" FROM dumper'.encode())
                for resource_id in ids[1:4]:
                    _fill(writer, resource_id, 10)
                for resource_id in ids[:2]:
                    writer.execute("SELECT datastore_dumper.request(%s, true)", [resource_id])
                daemon.wait_for("export_failed")
                _save(eventually(lambda: _in_the_middle(connection), timeout=120))
                admin.execute(f'GRANT SELECT ON "{ids[1]}" TO dumper'.encode())


def _fill(writer: Connection, resource_id: str, rows: int) -> None:
    writer.execute(
        f'INSERT INTO "{resource_id}" (station, measured, value) '
        f"SELECT 'station ' || i %% 97, timestamp '2024-01-01' + i * interval '1 min', (i::bigint * 7919 %% 4001)::numeric / 100 "
        "FROM generate_series(1, %s) AS i".encode(),
        [rows],
    )


def _config(directory: Path, database: ScratchDatabase) -> Path:
    (directory / "files").mkdir()
    path = directory / "config.yaml"
    settings = {
        "database": {"dsn": database.dsn_for("dumper")},
        "debounce": {"quiet_seconds": _DEBOUNCE.quiet_seconds, "max_delay_seconds": _DEBOUNCE.max_delay_seconds},
        "lease": {"ttl_seconds": 2},
        "storage": {"type": "disk", "disk": {"directory": str(directory / "files")}},
    }
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def _in_the_middle(connection: Connection) -> Overview | None:
    """What is to be seen while the large table is between a third and two thirds."""
    found = overview(connection, _DEBOUNCE)
    exports = [table.export for table in found.tables if table.export is not None and table.export.expected_rows]
    middle = any(1 / 3 < export.rows / (export.expected_rows or 1) < 2 / 3 for export in exports)
    return found if middle else None


def _save(found: Overview) -> None:
    with Path("/dev/null").open("w") as nowhere:
        console = Console(record=True, force_terminal=True, color_system="truecolor", width=_WIDTH, file=nowhere)
        console.print(watched(found, _WIDTH, _HEIGHT, f"{found.now:%H:%M:%S}, every 1 s. Ctrl-C ends this."))
        target = Path(__file__).with_name("status.svg")
        console.save_svg(str(target), title="datastore-dumper status --watch", theme=MONOKAI, code_format=FORMAT)


if __name__ == "__main__":
    main()
