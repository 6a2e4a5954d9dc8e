"""Checks of where files go: the spool directory, and the storage as the daemon writes it and as browsers read it."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from urllib3 import PoolManager, Retry
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from datastore_dumper.checks.postgres import skew
from datastore_dumper.checks.results import Result, Subject, failed, of_error, ok, some, warning
from datastore_dumper.config.storage import storage_settings
from datastore_dumper.database import Connection
from datastore_dumper.errors import EXIT_CONFIG, EXIT_NO_PERMISSION, DumperError
from datastore_dumper.ownership import Verdict, verdict
from datastore_dumper.spool import spool_directory
from datastore_dumper.storage.base import CHECK_PREFIX, BytesPart, ObjectHeaders, Storage
from datastore_dumper.storage.s3_pool import connections
from datastore_dumper.storage.settings import S3Settings
from datastore_dumper.words import counted, shown_bytes

# A signature holds for 15 minutes (S3: RequestTimeTooSkewed); well before that somebody should know.
_SKEW_SECONDS = 60.0
_LINK_SECONDS = 60
_WINDOWS = 2  # of a table: the segments that wait for the storage, and those being read meanwhile
_LEAST_FREE_SHARE = 0.05


def spool(subject: Subject) -> Iterator[Result]:
    """Where segments wait between Postgres and the storage."""
    export = subject.config.export
    try:
        with spool_directory(export.spool_directory):
            root = export.spool_directory or Path(tempfile.gettempdir())
            free = shutil.disk_usage(root).free
    except DumperError as error:
        yield of_error("spool.directory", error)
        return
    wanted = export.segment_bytes * _WINDOWS * (export.workers + 1) * export.concurrency
    found = f"{root} has {shown_bytes(free)} free"
    if free < wanted:
        mend = f"Set export.spool_directory to a place with {shown_bytes(wanted)} or more, or make room."
        yield warning("spool.directory", found, mend)
    else:
        yield ok("spool.directory", found)


def owner(subject: Subject, connection: Connection) -> Iterator[Result]:
    """Whose files the storage holds: this database's, as the daemon will find before it publishes."""
    found = verdict(connection, subject.storage)
    if found is Verdict.ANOTHER_STORAGE:
        yield warning(
            "storage.owner",
            "the storage has no mark, but this database's files are in one that has",
            "Configure the storage that the files are in, or start the daemon: it makes all files again in this one.",
        )
    else:
        shown = "this database's" if found is Verdict.OURS else "nobody's yet; the daemon marks it"
        yield ok("storage.owner", f"the storage is {shown}")


def round_trip(subject: Subject) -> Iterator[Result]:
    """Write, read, copy a range and delete; then what browsers do with a link."""
    try:
        notes = subject.storage.check()
    except DumperError as error:
        yield of_error("storage.round_trip", error)
        return
    if notes:
        mend = "Every change uploads the whole file. Use a service that copies ranges, or disk."
        yield warning("storage.round_trip", "; ".join(notes), mend)
    else:
        yield ok("storage.round_trip", "wrote, read, copied a range of and deleted an object")
    settings = storage_settings(subject.config)
    if isinstance(settings, S3Settings):
        yield from _links(subject.storage, settings)
    else:
        yield _room(settings.directory)
        yield _owners(settings.directory)


def _room(directory: Path) -> Result:
    usage = shutil.disk_usage(directory)
    found = f"{directory} has {shown_bytes(usage.free)} of {shown_bytes(usage.total)} free"
    if usage.free < usage.total * _LEAST_FREE_SHARE:
        return warning("storage.room", found, "Make room: a file is written beside the one that it replaces.")
    return ok("storage.room", found)


def _owners(directory: Path) -> Result:
    """Directories that a run under another user left, and that the daemon will not get into. Its user is who owns the
    uppermost one: whoever runs this may be root."""
    user = directory.stat().st_uid
    foreign: list[str] = []
    locked: list[str] = []
    for each in _directories(directory):
        try:
            if each.stat().st_uid != user:
                foreign.append(str(each))
            elif not os.access(each, os.R_OK | os.W_OK | os.X_OK):
                locked.append(str(each))
        except FileNotFoundError:
            continue  # of a file that was just superseded
        except PermissionError:
            locked.append(str(each))
    amiss = foreign or locked
    if not amiss:
        return ok("storage.directories", "all belong to one user, who can write to them")
    name = _user_name(user)
    why = f"do not belong to {name}" if foreign else "cannot be written to"
    mend = f"As root: chown -R {name} {directory} && chmod -R u+rwX {directory}. Run all commands as that user."
    return failed(
        "storage.directories",
        f"{counted(len(amiss), 'directory', 'directories')} {why}: {some(amiss)}",
        mend,
        EXIT_NO_PERMISSION,
    )


def _directories(top: Path) -> Iterator[Path]:
    """All of them, as their parents name them: `os.walk` passes over those that it may not read."""
    yield top
    for path, names, _ in os.walk(top):
        for name in names:
            yield Path(path, name)


def _user_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _links(storage: Storage, settings: S3Settings) -> Iterator[Result]:
    """A presigned link must hand the object out, and nothing else may: no tampered link, and no bare address."""
    content = secrets.token_bytes(64)
    key = f"{CHECK_PREFIX}{secrets.token_hex(8)}/link"
    headers = ObjectHeaders("application/octet-stream", "check")
    endpoint = settings.public_endpoint or settings.endpoint
    try:
        storage.write(key, [BytesPart(content)], headers)
        url = storage.link(key, headers, _LINK_SECONDS)
        assert url is not None, "an S3 storage has links"
        with _browser(settings) as browser:
            before = datetime.now(timezone.utc)
            answer = _get(browser, url)
            after = datetime.now(timezone.utc)
            yield _followed(answer, content, endpoint)
            if isinstance(answer, str):
                return
            yield _date(answer, before, after)
            yield _refused(
                "storage.tampered_link",
                _get(browser, _tampered(url)),
                "a link with another signature",
                f"{endpoint} does not verify signatures: switch on authentication there.",
            )
            yield _refused(
                "storage.private",
                _get(browser, url.partition("?")[0]),
                "the address without a signature",
                "Make the bucket private: anybody can read it past CKAN.",
            )
    except DumperError as error:
        yield of_error("storage.link", error)
    finally:
        storage.delete(key)


def _followed(answer: BaseHTTPResponse | str, content: bytes, endpoint: str) -> Result:
    if isinstance(answer, str):
        return warning(
            "storage.link",
            f"a link cannot be followed from this machine: {answer}",
            "If browsers cannot either, mend storage.s3.public_endpoint.",
        )
    if answer.status != 200 or answer.data != content:
        return failed(
            "storage.link",
            f"{endpoint} answered a link with {answer.status}" + (" and other bytes" if answer.status == 200 else ""),
            "Is storage.s3.public_endpoint the same service as storage.s3.endpoint, and does every proxy before it pass "
            "on the Host header and the query as they are?",
            EXIT_CONFIG,
        )
    return ok("storage.link", f"{endpoint} hands an object out by its link")


def _refused(name: str, answer: BaseHTTPResponse | str, what: str, mend: str) -> Result:
    if isinstance(answer, str):
        return warning(name, f"{what} could not be tried: {answer}", "Try again.")
    if 400 <= answer.status < 500:
        return ok(name, f"{what} is refused ({answer.status})")
    return failed(name, f"{what} is answered with {answer.status}", mend, EXIT_CONFIG)


def _date(answer: BaseHTTPResponse, before: datetime, after: datetime) -> Result:
    """By the Date of the answer, which is cut to the second."""
    try:
        theirs = parsedate_to_datetime(answer.headers.get("date", ""))
    except ValueError:
        return ok("storage.clock", "the service does not tell its time")
    return skew("storage.clock", theirs, before, after, "the S3 service", _SKEW_SECONDS)


def _tampered(url: str) -> str:
    """The link with one digit of its signature changed."""
    parts = urlsplit(url)
    pairs = dict(parse_qsl(parts.query, keep_blank_values=True))
    signature = pairs["X-Amz-Signature"]
    pairs["X-Amz-Signature"] = signature[:-1] + ("0" if signature[-1] != "0" else "1")
    return urlunsplit(parts._replace(query=urlencode(pairs)))


def _browser(settings: S3Settings) -> PoolManager:
    """Somebody without our keys."""
    retries = Retry(1, redirect=0, raise_on_redirect=False, raise_on_status=False)
    return connections(settings, retries, read_seconds=settings.connect_timeout_seconds * 2)


def _get(browser: PoolManager, url: str) -> BaseHTTPResponse | str:
    """The answer, or why there is none."""
    try:
        return browser.request("GET", url)
    except HTTPError as error:
        reason = getattr(error, "reason", None) or error
        return str(reason).rpartition(">: ")[2].partition(" (Caused")[0]
