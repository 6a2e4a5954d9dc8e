"""What an S3 service may answer to a running daemon, one fault at a time: while it lasts, the status has the error and what was
published stays; once it is over, the file is the table, and nothing is left over.

Each fault has a table of its own and concerns that table's requests alone, so all of them are waited for at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from urllib.parse import unquote

import pytest
from psycopg.conninfo import make_conninfo

from datastore_dumper.install import install
from datastore_dumper.storage.s3 import S3Storage
from tests.support.converged import collect_all, left_in_database, not_fresh, orphans
from tests.support.daemon import DaemonProcess, Dumper, dumper_for
from tests.support.datastore import create_table
from tests.support.faulty_front import (
    COMPLETED_WITH_ERROR,
    FORBIDDEN,
    INTERNAL_ERROR,
    SLOW_DOWN,
    Frozen,
    HalfSent,
    Lost,
    Reply,
    Request,
    Truncated,
    front,
)
from tests.support.installation import ROLES, handle
from tests.support.postgres import Connection, PostgresServer, ScratchDatabase
from tests.support.proxy import Proxy, proxy_to
from tests.support.seaweedfs import S3Server
from tests.support.waiting import eventually

# A file of 13 MiB and some segments: a change in the last one is an upload whose first part is fetched and sent, whose second
# is copied, and whose third is new.
_ROWS = 74_000
_VALUE_BYTES = 180
WAIT_SECONDS = 180
EVERYTHING = "everything"


@dataclass(frozen=True)
class Case:
    """A fault of one operation. `error`: what the status says of it; none: the daemon finds a way while it lasts."""

    name: str
    reply: Reply
    operation: str
    error: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.operation}".replace(" ", "-")

    @property
    def is_large(self) -> bool:
        """The table's file is put together from parts."""
        return self.operation != "put"


CASES = [
    *(Case("500", INTERNAL_ERROR, operation, "InternalError") for operation in ("put", "complete")),
    *(Case("503", SLOW_DOWN, operation, "SlowDown") for operation in ("put", "part", "copy", "complete", EVERYTHING)),
    *(Case("403", FORBIDDEN, operation, "AccessDenied") for operation in ("put", "complete")),
    *(Case("200 with an error", COMPLETED_WITH_ERROR, each, "InternalError") for each in ("copy", "complete")),
    *(Case("half of the request", HalfSent(), each, "cannot be reached") for each in ("put", "part", "complete")),
    *(Case("half of the answer", Truncated(), each, "cannot be reached") for each in ("get", "create", "copy")),
    Case("half of the answer", Truncated(), "complete"),
    *(Case("answer lost", Lost(), each, "cannot be reached") for each in ("put", "create", "copy")),
    Case("answer lost", Lost(), "complete"),
    *(Case("frozen", Frozen(), each, "Read timed out") for each in ("put", "copy", "complete")),
]


class Service:
    """A running daemon that reaches the S3 service through the front, and the faults in force."""

    def __init__(self, daemon: DaemonProcess, dumper: Dumper, direct: S3Storage, admin: Connection) -> None:
        self.daemon = daemon
        self.direct = direct
        self.database = dumper.database
        self.faults: dict[str, Case] = {}
        self._admin = admin

    def reply(self, request: Request) -> Reply | None:
        about = [*unquote(request.path).split("/"), *request.query.get("prefix", [""])[0].split("/")]
        case = next((case for table, case in list(self.faults.items()) if table in about), None)
        return case.reply if case is not None and case.operation in (request.operation, EVERYTHING) else None

    def begin(self, case: Case) -> None:
        """The fault, and then a change that its table's export meets it with."""
        self.faults[str(case)] = case
        self._admin.execute(f'UPDATE "{case}" SET a = \'changed\' WHERE _id = (SELECT max(_id) FROM "{case}")'.encode())

    def lift(self, case: Case) -> None:
        self.faults.pop(str(case), None)
        if isinstance(case.reply, Frozen):
            case.reply.thawed.set()

    def error(self, case: Case) -> str:
        """What `datastore-dumper status` says of the table."""
        row = self._admin.execute(
            "SELECT last_error FROM datastore_dumper.resource WHERE resource_id = %s", [str(case)]
        ).fetchone()
        return (row and row[0]) or ""

    def is_fresh(self, case: Case) -> bool:
        row = self._admin.execute("SELECT fresh FROM datastore_dumper.lookup(%s, 'csv')", [str(case)]).fetchone()
        return bool(row and row[0])

    def file(self, case: Case) -> bytes:
        """What is published."""
        row = self._admin.execute(
            "SELECT storage_key FROM datastore_dumper.dump_status WHERE resource_id = %s", [str(case)]
        ).fetchone()
        assert row is not None
        with self.direct.open(row[0]) as stream:
            return stream.read()

    def table(self, case: Case) -> bytes:
        """The file as it must be, by Postgres alone."""
        query = f'COPY (SELECT _id, a FROM "{case}" ORDER BY _id) TO STDOUT csv'
        with self._admin.cursor().copy(query.encode()) as copy:
            return b"_id,a\r\n" + b"".join(bytes(data) for data in copy)


@pytest.fixture(scope="module")
def service(
    postgres_server: PostgresServer,
    datastore_template: str,
    s3_server: S3Server,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """All tables published, then all faults in force, and all tables changed."""
    if s3_server.secure:
        pytest.skip("the front speaks http")
    with ExitStack() as stack:
        name = stack.enter_context(postgres_server.new_database("s3_faults", template=datastore_template))
        database = ScratchDatabase(postgres_server, name)
        install(handle(database), ROLES)
        admin = stack.enter_context(database.connect())
        for case in CASES:
            fill(admin, case)
        bucket = stack.enter_context(s3_server.new_bucket())
        state = stack.enter_context(front(s3_server.endpoint))
        dumper = dumper_for(database, tmp_path_factory.mktemp("s3_faults"))
        dumper.settings["storage"] = s3_server.settings(bucket, endpoint=state.endpoint, read_timeout_seconds=4)
        dumper.settings["lease"] = {"ttl_seconds": 20}
        dumper.settings["export"] |= {
            "formats": ["csv"],
            "segment_bytes": 1 << 20,
            "concurrency": 6,
            "retry_max_seconds": 1,
        }
        direct = S3Storage(replace(dumper.storage.settings, endpoint=s3_server.endpoint))
        daemon = stack.enter_context(dumper.running())
        service = Service(daemon, dumper, direct, admin)
        eventually(lambda: not_fresh(admin, ["csv"]) == [], timeout=WAIT_SECONDS)
        state.fault = service.reply
        for case in CASES:
            service.begin(case)
        yield service
        for case in CASES:
            service.lift(case)


def fill(admin: Connection, case: Case) -> None:
    create_table(admin, str(case), {"a": "text"})
    rows, length = (_ROWS, _VALUE_BYTES) if case.is_large else (3, 3)
    admin.execute(f'ALTER TABLE "{case}" DISABLE TRIGGER zfulltext'.encode())
    admin.execute(
        f'INSERT INTO "{case}" (_id, a) SELECT i, repeat(chr(97 + i %% 26), %s) FROM generate_series(1, %s) AS i'.encode(),
        [length, rows],
    )


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_fault_is_seen_while_it_lasts_and_gone_when_it_is_over(service: Service, case: Case) -> None:
    if case.error:
        eventually(lambda: case.error in service.error(case), timeout=WAIT_SECONDS)
        assert not service.is_fresh(case)
        assert b"changed" not in service.file(case)
        service.lift(case)
    eventually(lambda: service.is_fresh(case), timeout=WAIT_SECONDS)
    assert service.error(case) == ""
    assert service.file(case) == service.table(case)


def test_nothing_is_left_over(service: Service) -> None:
    for case in CASES:
        service.lift(case)
    with service.database.connect() as admin:
        eventually(lambda: not_fresh(admin, ["csv"]) == [], timeout=WAIT_SECONDS)
        assert service.daemon.terminate() == 0
        assert left_in_database(admin) == {}
    collect_all(service.database, service.direct)
    assert orphans(service.database, service.direct) == []


@pytest.mark.parametrize("misbehave", [Proxy.cut, Proxy.refuse, Proxy.freeze])
def test_a_service_that_is_gone_for_a_while(
    dumper: Dumper, s3_server: S3Server, s3_bucket: str, misbehave: Callable[[Proxy], None]
) -> None:
    install(handle(dumper.database), ROLES)
    host, _, port = s3_server.endpoint.partition(":")
    with proxy_to(make_conninfo(host=host, port=port)) as proxy, dumper.database.connect("ckan_write") as writer:
        create_table(writer, "t", {"a": "text"})
        there = s3_server.settings(s3_bucket, endpoint=f"127.0.0.1:{proxy.port}", read_timeout_seconds=1)
        with dumper.running(storage=there, export={"retry_max_seconds": 1}) as daemon:
            daemon.wait_for("published", resource_id="t", rows=0)
            misbehave(proxy)
            writer.execute("INSERT INTO t (a) VALUES ('x')")
            if misbehave is not Proxy.cut:
                failed = daemon.wait_for("export_failed", resource_id="t", timeout_seconds=WAIT_SECONDS)
                assert "cannot be reached" in failed["error"]
                proxy.restore()
            daemon.wait_for("published", resource_id="t", rows=1, timeout_seconds=WAIT_SECONDS)
        dumper.settings["storage"] = s3_server.settings(s3_bucket)
        assert dumper.file("t") == b"_id,a\r\n1,x\n"
        collect_all(dumper.database, dumper.storage)
        assert orphans(dumper.database, dumper.storage) == []
