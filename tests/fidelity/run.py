"""One comparison from beginning to end: a Postgres, a CKAN, the tables, the daemon's files, the report."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import urllib3
from psycopg import sql

from datastore_dumper.install import install, uninstall
from tests.fidelity.comparison import FORMATS, SENSIBLE, Difference, Refusal, Refused, ask_again, ask_ckan, difference
from tests.fidelity.making import execute, make_own_types, make_tables
from tests.fidelity.recipes import Recipe, digest, recipes
from tests.support.ckan_site import CkanPlatform, CkanSite, Databases
from tests.support.daemon import Dumper
from tests.support.datastore import READ_ROLE
from tests.support.installation import ROLES, handle
from tests.support.postgres import PostgresServer, ScratchDatabase

Progress = Callable[[str, int, int], None]
"""Gets what is going on, how much of it is done, and how much there is."""

_DOWNLOADS_AT_ONCE = 3
_SEGMENT_BYTES = 64 * 1024  # the least that is allowed: files of many segments
_ROLE_SETTINGS: Mapping[str, tuple[str, ...]] = {
    "timezone": ("Asia/Kathmandu", "America/St_Johns", "Europe/Berlin", "UTC"),
    "datestyle": ("German", "SQL, DMY", "Postgres, MDY", "ISO, YMD"),
    "intervalstyle": ("sql_standard", "postgres_verbose", "iso_8601"),
    "extra_float_digits": ("0", "-5", "3"),
    "bytea_output": ("escape", "hex"),
}


@dataclass(frozen=True)
class Round:
    """CKAN and its read role set up in one way."""

    name: str
    milliseconds: bool
    role_settings: Mapping[str, str]


@dataclass
class Report:
    """What came out of it."""

    release: str
    tables: Sequence[Recipe]
    comparisons: int = 0
    differences: list[Difference] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    answered_later: int = 0
    """Downloads that CKAN failed to send while it sent others, and sent when asked again: its threads now and then close
    each other's cursors."""
    seconds: float = 0

    @property
    def last_line(self) -> str:
        return (
            f"{len(self.tables)} tables, {self.comparisons} comparisons, {len(self.differences)} differences, "
            f"{len(self.refused)} cases CKAN itself refuses"
        )

    def refusal_lines(self) -> Iterator[str]:
        """The refused cases by what the table is like and why CKAN fails on it."""
        kinds: Counter[tuple[str, str, str]] = Counter()
        formats: defaultdict[tuple[str, str, str], set[str]] = defaultdict(set)
        for refused in self.refused:
            ours = "we publish none" if refused.ours is None else "we publish a file"
            kind = (refused.recipe.kind, refused.reason, ours)
            kinds[kind] += 1
            formats[kind].add(refused.format)
        for (table, why, ours), count in sorted(kinds.items()):
            names = " ".join(name for name in FORMATS if name in formats[table, why, ours])
            yield f"{count:4}  {table}: {why} ({names}); {ours}"


def compare(
    platform: CkanPlatform, directory: Path, release: str, tables: int, seed: int, progress: Progress
) -> Report:
    """Everything. `platform` has the CKAN of that release; `directory` is for the daemon's files."""
    started = time.monotonic()
    report = Report(release, list(recipes(seed, tables)))
    rounds = _rounds(release, seed)

    def before_start(databases: Databases) -> None:
        database = ScratchDatabase(platform.postgres, databases.datastore)
        with database.connect() as connection:
            make_own_types(connection)
        _set_role_settings(database, rounds[0].role_settings)

    with platform.site(settings=_ckan_settings(release, rounds[0]), before_start=before_start) as site:
        database = ScratchDatabase(platform.postgres, site.databases.datastore)
        with database.connect() as connection:
            make_tables(site, connection, release, report.tables, lambda done: progress("making tables", done, tables))
        for number, each in enumerate(rounds):
            if number:
                _set_role_settings(database, each.role_settings)
                site.restart(settings=_ckan_settings(release, each))
            _compare_round(site, database, directory / str(number), report, each, progress)
        report.seconds = time.monotonic() - started
    return report


def _rounds(release: str, seed: int) -> tuple[Round, Round]:
    """As installed; then with settings that show in the bytes. Together they have both timestamps of 2.12."""
    random = Random(f"settings/{seed}")
    settings = {name: random.choice(values) for name, values in _ROLE_SETTINGS.items()}
    milliseconds = release == "2.12"
    first = "ms_in_timestamp on" if milliseconds else "as installed"
    second = ", ".join(f"{name} {value}" for name, value in settings.items())
    return (
        Round(first, milliseconds, {}),
        Round(f"ms_in_timestamp off, {second}" if milliseconds else second, False, settings),
    )


def _ckan_settings(release: str, each: Round) -> dict[str, str]:
    return {"ckan.datastore.ms_in_timestamp": str(each.milliseconds).lower()} if release == "2.12" else {}


def _set_role_settings(database: ScratchDatabase, settings: Mapping[str, str]) -> None:
    with database.connect() as connection:
        for name, value in settings.items():
            connection.execute(
                sql.SQL("ALTER ROLE {} IN DATABASE {} SET {} = {}").format(
                    sql.Identifier(READ_ROLE), sql.Identifier(database.name), sql.Identifier(name), sql.Literal(value)
                )
            )


def _compare_round(
    site: CkanSite, database: ScratchDatabase, directory: Path, report: Report, each: Round, progress: Progress
) -> None:
    with _published(database, directory, report, each, progress) as dumper:
        http = urllib3.PoolManager(maxsize=_DOWNLOADS_AT_ONCE, timeout=urllib3.Timeout(300), retries=False)
        cases = [(recipe, format_name) for recipe in report.tables for format_name in FORMATS]
        # CKAN learns the types at its first request, and fails on others that come meanwhile.
        ask_ckan(site, http, *cases[0])
        unanswered = []
        with ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as pool:
            answers = pool.map(lambda case: ask_ckan(site, http, *case), cases)
            for number, (case, ckans) in enumerate(zip(cases, answers, strict=True), 1):
                if isinstance(ckans, Refusal):
                    unanswered.append(case)
                else:
                    _compare_file(report, each, *case, ckans, _our_file(dumper, database, *case))
                if number % len(FORMATS) == 0:
                    progress(f"comparing, {each.name}", number // len(FORMATS), len(report.tables))
        for recipe, format_name in unanswered:
            answer, why = ask_again(site, http, recipe, format_name)
            ours = _our_file(dumper, database, recipe, format_name)
            if isinstance(answer, Refusal):
                report.comparisons += 1
                report.refused.append(Refused(recipe, format_name, why, ours[0]))
                if ours[0] is not None and not any(f", {error}" in why for error in SENSIBLE):
                    told = f"  CKAN refuses ({why}), and we publish a file for no reason that is documented"
                    report.differences.append(Difference(recipe, format_name, each.name, told))
            else:
                report.answered_later += 1
                _compare_file(report, each, recipe, format_name, answer, ours)


def _compare_file(
    report: Report, each: Round, recipe: Recipe, format_name: str, ckans: bytes, ours: tuple[bytes | None, str | None]
) -> None:
    report.comparisons += 1
    told = difference(ckans, *ours, format_name)
    if told is not None:
        report.differences.append(Difference(recipe, format_name, each.name, told))


@contextmanager
def _published(
    database: ScratchDatabase, directory: Path, report: Report, each: Round, progress: Progress
) -> Iterator[Dumper]:
    """The daemon's files of all tables; those of some tables made of older ones and what changed since."""
    assert install(handle(database), ROLES).failed == {}
    files = directory / "files"
    files.mkdir(parents=True)
    dumper = Dumper(
        database,
        directory,
        {
            "database": {"dsn": database.dsn},
            "roles": {"ckan_read": READ_ROLE},
            "ckan": {"compat": report.release, "ms_in_timestamp": each.milliseconds},
            "export": {"formats": list(FORMATS), "segment_bytes": _SEGMENT_BYTES, "spool_directory": str(directory)},
            "storage": {"type": "disk", "disk": {"directory": str(files)}},
            "log": {"level": "error"},
        },
    )
    progress("the daemon makes the files", 0, 1)
    assert dumper.once() == 0, "the daemon failed on a table"
    with database.connect() as connection:
        execute(connection, [(recipe, recipe.later) for recipe in report.tables])
    assert dumper.once() == 0, "the daemon failed on a table that had changed"
    progress("the daemon makes the files", 1, 1)
    yield dumper
    uninstall(handle(database))


def _our_file(
    dumper: Dumper, database: ScratchDatabase, recipe: Recipe, format_name: str
) -> tuple[bytes | None, str | None]:
    """The published file; if there is none, why."""
    with database.connect() as connection:
        key = connection.execute(
            "SELECT storage_key FROM datastore_dumper.dump_status WHERE resource_id = %s AND format = %s",
            [recipe.resource_id, format_name],
        ).fetchone()
        if key is None:
            why = connection.execute(
                "SELECT error FROM datastore_dumper.format_failure WHERE resource_id = %s AND format = %s",
                [recipe.resource_id, format_name],
            ).fetchone()
            return None, why[0] if why else "and no reason is recorded"
    with dumper.storage.open(key[0]) as stream:
        return stream.read(), None


def describe(report: Report) -> Iterator[str]:
    """The report, line by line."""
    yield f"CKAN {report.release}, tables {digest(report.tables)}, {report.seconds:.0f} s"
    if report.answered_later:
        yield f"CKAN sent {report.answered_later} files only when asked again, alone"
    if report.refused:
        yield "Refused by CKAN:"
        yield from report.refusal_lines()
    for number, each in enumerate(report.differences[:20], 1):
        yield f"Difference {number}: {each}"
    if len(report.differences) > 20:
        yield f"... and {len(report.differences) - 20} more differences"
    yield report.last_line


@contextmanager
def ckan_platform(server: PostgresServer, release: str) -> Iterator[CkanPlatform]:
    """CKAN's environment and services on that server."""
    from tests.support.ckan_env import ckan_environment

    with CkanPlatform.start(ckan_environment(release), server) as platform:
        yield platform
