"""What a download costs CKAN: our answer, CKAN's own dump, and a cheap call of the DataStore API, in one running CKAN.

Two clients ask two workers of gunicorn. Our answers are a link to the bucket, or a word to nginx: the bytes are sent by
others then. What Postgres does for an answer is summed up by pg_stat_statements, for CKAN's own database, too.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import urllib3

from bench.measurements import Goal, Outcome
from bench.rig import Rig
from bench.tables import load
from datastore_dumper.demo.postgres import PrivatePostgres
from datastore_dumper.demo.postgres_binaries import find_binaries
from datastore_dumper.install import install
from tests.support.ckan_env import ckan_environment
from tests.support.ckan_site import CkanPlatform, CkanSite
from tests.support.daemon import Dumper
from tests.support.datastore import DUMPER_ROLE, READ_ROLE, WRITE_ROLE
from tests.support.installation import ROLES, handle
from tests.support.postgres import PostgresServer, ScratchDatabase
from tests.support.seaweedfs import running_s3

_WORKERS = 2
_WARM_UP = 20 * _WORKERS  # until both have their connections and caches
_PLUGINS = ["datastore_dumper", "datastore"]
_PREFIX = "ckanext.datastore_dumper."
_SMALL = "10000000-0000-4000-8000-000000000001"
_LARGE = "10000000-0000-4000-8000-000000000002"
_SMALL_SHARE = 10  # the small table has a tenth of the rows
_DUMP_SECONDS = 3600  # of CKAN's own, on the slowest machine
_EXTENSION = "pg_stat_statements"
_P95_GOAL = 1.5
_POSTGRES_GOAL_SECONDS = 0.001
_TIMES_AS_MANY_GOAL = 500


@dataclass(frozen=True)
class Answers:
    """To one kind of request: how long each took, and all of them together."""

    seconds: tuple[float, ...]
    elapsed: float

    @property
    def each_second(self) -> float:
        return len(self.seconds) / self.elapsed


def run(rig: Rig) -> Outcome:
    with _running(rig) as (site, server, settings):
        rig.say(f"download: {rig.times} answers of each kind")
        api = _quick(site, f"/api/3/action/datastore_search?resource_id={_LARGE}&limit=1&include_total=false", rig)
        link = _quick(site, f"/datastore/dump/{_LARGE}", rig, status=302)
        postgres = _postgres_seconds(server, site, rig)
        site.restart(_PLUGINS, {**settings, f"{_PREFIX}delivery": "accel"}, workers=_WORKERS)
        word = _quick(site, f"/datastore/dump/{_LARGE}", rig)
        rig.say("download: CKAN's own dumps")
        small, large = (_ask(lambda name=name: _dump(site, name), rig.runs * _WORKERS) for name in (_SMALL, _LARGE))

    outcome = Outcome()
    reference = outcome.add("API: datastore_search, 1 row", "s", api.seconds, note=_rate(api))
    for name, answers in (
        ("ours: a link", link),
        ("ours: a word to nginx", word),
        (f"CKAN's dump, {rig.rows // _SMALL_SHARE:,} rows", small),
        (f"CKAN's dump, {rig.rows:,} rows", large),
    ):
        outcome.add(name, "s", answers.seconds, against=reference, note=_rate(answers))
    ours = outcome.series[1]
    outcome.facts.update(
        workers=_WORKERS,
        p50_seconds=ours.median,
        p95_seconds=ours.percentile(95),
        api_p95_seconds=reference.percentile(95),
        each_second=link.each_second,
        own_each_second=large.each_second,
    )
    outcome.goals.append(
        Goal("p95 of a link : of the API call", ours.percentile(95) / reference.percentile(95), _P95_GOAL)
    )
    outcome.goals.append(
        Goal(
            "links a second : dumps a second", link.each_second / large.each_second, _TIMES_AS_MANY_GOAL, at_least=True
        )
    )
    if postgres is None:
        outcome.facts["postgres"] = f"this Postgres has no {_EXTENSION}"
    else:
        outcome.goals.append(Goal("Postgres for a link, seconds", postgres, _POSTGRES_GOAL_SECONDS))
    return outcome


def _rate(answers: Answers) -> str:
    return f"{answers.each_second:,.3g} a second"


def _quick(site: CkanSite, path: str, rig: Rig, *, status: int = 200) -> Answers:
    def once() -> float:
        started = time.perf_counter()
        response = site.http.request("GET", site.url + path, redirect=False)
        seconds = time.perf_counter() - started
        assert response.status == status, (response.status, response.data[:500])
        return seconds

    _ask(once, _WARM_UP)
    return _ask(once, max(rig.times, _WORKERS))


def _dump(site: CkanSite, resource_id: str) -> float:
    """CKAN's own. Bytes are read as they come, and dropped."""
    started = time.perf_counter()
    with urllib3.PoolManager(timeout=urllib3.Timeout(_DUMP_SECONDS)) as http:
        response = http.request("GET", f"{site.url}/datastore/dump/{resource_id}?latest=true", preload_content=False)
        assert response.status == 200
        while response.read(1 << 20):
            pass
        response.release_conn()
    return time.perf_counter() - started


def _ask(once: Callable[[], float], times: int) -> Answers:
    """So many times, as many at once as there are workers."""
    started = time.perf_counter()
    with ThreadPoolExecutor(_WORKERS) as clients:
        seconds = tuple(clients.map(lambda _: once(), range(times)))
    return Answers(seconds, time.perf_counter() - started)


def _postgres_seconds(server: PostgresServer, site: CkanSite, rig: Rig) -> float | None:
    """What Postgres plans and executes for one link, in all databases; None where it does not count."""
    with server.connect() as connection:
        if connection.execute("SELECT to_regclass(%s)", [_EXTENSION]).fetchone() == (None,):
            return None
        connection.execute("SELECT pg_stat_statements_reset()")
        answers = _quick(site, f"/datastore/dump/{_LARGE}", rig, status=302)
        (milliseconds,) = connection.execute(
            "SELECT sum(total_plan_time + total_exec_time) FROM pg_stat_statements "
            "WHERE userid <> (SELECT oid FROM pg_roles WHERE rolname = current_user)"
        ).fetchone() or (0,)
    return float(milliseconds) / 1000 / (len(answers.seconds) + _WARM_UP)


@contextmanager
def _running(rig: Rig) -> Iterator[tuple[CkanSite, PostgresServer, dict[str, str]]]:
    """A CKAN with both tables published in a bucket, its server, and its settings."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=rig.directory)))
        server = PostgresServer(stack.enter_context(counting_postgres()).tcp_dsn())
        server.create_roles(WRITE_ROLE, READ_ROLE, DUMPER_ROLE)
        s3 = stack.enter_context(running_s3())
        s3.client().make_bucket("download")
        keys = {"endpoint": s3.endpoint, "bucket": "download", "access_key": s3.access_key, "secret_key": s3.secret_key}
        environment = ckan_environment()
        platform = stack.enter_context(CkanPlatform.start(environment, server))
        site = stack.enter_context(platform.site(["datastore"]))
        database = ScratchDatabase(server, site.databases.datastore)
        package = site.action("package_create", name="download")["id"]
        # With its first table CKAN makes its type `nested`.
        site.action("datastore_create", resource={"package_id": package}, fields=[{"id": "a", "type": "text"}])
        for resource_id, rows in ((_SMALL, rig.rows // _SMALL_SHARE), (_LARGE, rig.rows)):
            rig.say(f"loading {rows:,} rows")
            site.action("resource_create", package_id=package, id=resource_id, url="", name=resource_id)
            load(database, rows, resource_id)
        install(handle(database), ROLES)
        dumper = Dumper(
            database,
            directory,
            {
                "database": {"dsn": database.dsn},
                "ckan": {"compat": platform.version},
                "storage": {"type": "s3", "s3": {**keys, "secure": s3.secure}},
                "export": {"spool_directory": str(directory), "formats": ["csv"]},
            },
        )
        assert dumper.once() == 0
        settings = {
            f"{_PREFIX}storage": "s3",
            f"{_PREFIX}s3.secure": str(s3.secure),
            **{f"{_PREFIX}s3.{name}": value for name, value in keys.items()},
        }
        site.restart(_PLUGINS, settings, workers=_WORKERS)
        yield site, server, settings


@contextmanager
def counting_postgres(settings: Mapping[str, str] | None = None) -> Iterator[PrivatePostgres]:
    """As it comes but for these settings, and counting its statements if it can."""
    binaries = find_binaries()
    counts = any(binaries.bin_directory.parent.rglob(f"{_EXTENSION}.control"))
    counting = {"shared_preload_libraries": _EXTENSION, f"{_EXTENSION}.track_planning": "on"} if counts else {}
    with PrivatePostgres(binaries=binaries, tcp=True, settings={**counting, **(settings or {})}) as postgres:
        if counts:
            with PostgresServer(postgres.tcp_dsn()).connect() as connection:
                connection.execute(f"CREATE EXTENSION {_EXTENSION}")
        yield postgres
