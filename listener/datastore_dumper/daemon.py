"""The daemon: looks, decides what is due, and hands it to workers. Side tasks listen, renew leases and keep house.

Nothing that matters is only in this process's memory: what is to do is in the change rows, who does it in the leases.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from datastore_dumper import __version__
from datastore_dumper.config import Config
from datastore_dumper.config.reload import take_over
from datastore_dumper.database import Connection, Database, database_errors
from datastore_dumper.deadline import Deadline
from datastore_dumper.doorbell import Bell, listen
from datastore_dumper.due import IMMEDIATELY, Pace, Pending, agenda, startable
from datastore_dumper.errors import ConfigError
from datastore_dumper.failpoints import arm
from datastore_dumper.housekeeping import Housekeeping
from datastore_dumper.install import require_installed
from datastore_dumper.lease import Leases, owner_name
from datastore_dumper.lifecycle import PASSING, Supervisor, hangup_signal, keep_connected, stop_signals
from datastore_dumper.logs import configure_logging, get_logger
from datastore_dumper.look import Backlog, look
from datastore_dumper.monitor import exports, metrics
from datastore_dumper.monitor.monitor import Monitor
from datastore_dumper.monitor.storage import MeteredStorage
from datastore_dumper.ownership import Ownership
from datastore_dumper.processes import SegmentProcesses
from datastore_dumper.reader import require_reader
from datastore_dumper.spool import spool_directory
from datastore_dumper.standby import require_primary
from datastore_dumper.storage.base import Storage
from datastore_dumper.watchdog import watch
from datastore_dumper.wiring import debounce_of, standby_of, work_settings
from datastore_dumper.worker import Worker

log = get_logger(__name__)

_QUERY_SECONDS = 60  # deadline of the short queries of looking and renewing
_TICK_SECONDS = 1  # between two words to the service manager
_LINGER = timedelta(seconds=30)  # for a COPY to be gone whose daemon has lost its lease
_MISSED_SECONDS = 1  # before tables that could not be claimed are tried once more
_HEED_SECONDS = 10  # for what runs to end by itself once it is told to


@dataclass(frozen=True)
class Foreground:
    """What it takes to export at once."""

    connection: Connection
    spool: Path
    stop: threading.Event
    leases: Leases
    worker: Callable[[], Worker]
    """The calling thread's own."""


class Daemon:
    """One process's share of the work. Several daemons may run on one database."""

    def __init__(
        self, config: Config, database: Database, storage: Storage, read_again: Callable[[], Config] | None = None
    ) -> None:
        """`read_again` reads the configuration at SIGHUP; None: it stays as it is."""
        self._config = config
        self._read_again = read_again
        self._database = database
        self._standby = standby_of(config)
        self._storage = MeteredStorage(storage)
        self._settings = work_settings(config)
        self._ownership = Ownership(self._storage, lambda: self._settings.retain_seconds)
        self._debounce = debounce_of(config)
        self._pace = Pace(config.export.first_dumps_per_minute)
        self._reloading = threading.Lock()
        self._leases = Leases(owner_name(), config.lease.ttl_seconds)
        self._monitor = Monitor(config, self._leases, self._settings.selection.all_formats)
        self._house = Housekeeping(self._storage, self._ownership, self._monitor, lambda: self._settings)
        self._supervisor = Supervisor()
        self._abandon = threading.Event()  # running exports shall break off
        self._finished = threading.Event()  # no export runs any more, and none will
        self._bell = Bell()
        self._processes = SegmentProcesses(config.export.workers)
        self._housekeeping_due = threading.Event()
        self._reported: frozenset[int] = frozenset()
        self._backlog = Backlog()
        self._running: dict[int, tuple[Pending, Future[bool | None]]] = {}
        self._somebody_exports = False  # as of the last look: this daemon or another
        self._local = threading.local()
        self._workers: list[Worker] = []

    def check(self) -> None:
        """Raise `DumperError` if database, schema or storage are not what the daemon needs. Marks a new storage as ours."""
        with self._database.connect("check") as connection:
            if connection.pooled:
                log.info("pooler_found", note="notifications may not pass it; see `datastore-dumper check`")
            with database_errors():
                require_primary(connection)
                require_reader(connection, self._config.roles.ckan_read)
            require_installed(connection)
            if self._standby is not None:
                self._standby.check(connection)
            for note in self._storage.check():
                log.warning("storage_limited", note=note)
            with database_errors():
                self._ownership.settle(connection)

    def run(self) -> None:
        """Work until SIGTERM or SIGINT. Raises what a side task failed with."""
        supervisor = self._supervisor
        supervisor.on_stop(self._bell.ring)
        supervisor.on_stop(self._housekeeping_due.set)
        if arm():
            log.warning("failpoints_armed")
        # From the first word to the last: whoever reads that the daemon runs may send it a signal.
        with stop_signals(supervisor.shut_down, self._break_off), hangup_signal(self._reload):
            log.info(
                "daemon_started",
                version=__version__,
                owner=self._leases.owner,
                formats=self._settings.selection.all_formats,
            )
            self._work_until_stopped()
            supervisor.join(_HEED_SECONDS)
            if supervisor.failure is not None:
                raise supervisor.failure
            log.info("daemon_stopped")

    def _work_until_stopped(self) -> None:
        supervisor = self._supervisor
        with (
            self._monitor.serving(),
            spool_directory(self._config.export.spool_directory) as spool,
            ThreadPoolExecutor(self._config.export.concurrency, thread_name_prefix="export") as pool,
        ):
            supervisor.start("listen", lambda: listen(self._database, self._bell, self._monitor.pings, supervisor.stop))
            supervisor.start("renew leases", self._renew_leases)
            supervisor.start("keep house", self._keep_house)
            self._start_watchdogs(lambda: self._somebody_exports or bool(self._running))
            supervisor.start("look", lambda: self._look_and_submit(pool, spool))
            self._monitor.start(supervisor)
            # In slices: a wait without end would not let Python run signal handlers everywhere.
            while not supervisor.stop.wait(_TICK_SECONDS):
                self._monitor.tick()
            self._monitor.stopping(self._config.shutdown_timeout_seconds)
            log.info("daemon_stopping", running=len(self._running))
            self._finish_or_abandon()
            pool.shutdown(wait=True, cancel_futures=True)
            self._finished.set()
            self._close_workers()

    def run_once(self) -> int:
        """Publish all that has changed, whatever its quiet time, and collect garbage. Returns how many tables failed."""
        tried: set[int] = set()
        with self.foreground() as hands:
            failed, missed = self._publish_pending(hands, tried)
            if missed and not hands.stop.wait(_MISSED_SECONDS):  # somebody was just writing to their rows
                tried -= missed
                failed_again, missed = self._publish_pending(hands, tried)
                failed += failed_again
            self._house.collect_garbage(hands.connection)
        failed += len(missed)
        log.info("once_done", tables=len(tried), failed=failed)
        return failed

    def _publish_pending(self, hands: Foreground, tried: set[int]) -> tuple[int, set[int]]:
        """Publish all that is pending, each table once, apart from those in `tried`, to which they are added. How many failed, and
        which could not be claimed."""
        failed = 0
        missed: set[int] = set()
        while not hands.stop.is_set():
            began = time.monotonic()
            pending, now = look(hands.connection)
            due = () if now is None else agenda(pending, IMMEDIATELY, now).due
            untried = [each for each in due if each.relid not in tried]
            if now is None or not untried:
                break
            backlog = Backlog.found(untried, now, began, time.monotonic())
            for relid in list(backlog.due):
                published = self._dump(relid, hands.spool)
                tried.add(relid)
                failed += published is False
                if published is None:
                    missed.add(relid)
                if hands.stop.is_set() or not backlog.lasts(time.monotonic()):
                    break
        return failed, missed

    @contextmanager
    def foreground(self, *, patient: bool = True) -> Iterator[Foreground]:
        """For exports that the caller wants now, after reconciling: leases are renewed and watchdogs watch until the end.

        The first signal sets `stop`, the second breaks the export off; the first does both if it is not to be patient.
        """
        supervisor = self._supervisor
        if not patient:
            supervisor.on_stop(self._abandon.set)
        with (
            stop_signals(supervisor.shut_down, self._break_off),
            spool_directory(self._config.export.spool_directory) as spool,
            self._database.connect("look") as connection,
            database_errors(),
        ):
            supervisor.start("renew leases", self._renew_leases)
            self._start_watchdogs(lambda: True)
            try:
                self._house.reconcile(connection)
                yield Foreground(connection, spool, supervisor.stop, self._leases, lambda: self._worker(spool))
            finally:
                supervisor.shut_down()
                self._finished.set()
                self._close_workers()
        if supervisor.failure is not None:
            raise supervisor.failure

    def _look_and_submit(self, pool: ThreadPoolExecutor, spool: Path) -> None:
        def work(connection: Connection) -> None:
            while not self._supervisor.stop.is_set():
                self._monitor.health.turned()
                self._bell.wait(self._submit_due(connection, pool, spool))

        keep_connected(self._database, "look", self._supervisor.stop, work, self._monitor.health.turned)

    def _submit_due(self, connection: Connection, pool: ThreadPoolExecutor, spool: Path) -> float:
        """Look, unless the last look is still good, and start what is due, as far as there are free workers. Returns seconds until
        the next look."""
        began = time.monotonic()
        wait_seconds = self._config.look.interval_seconds
        if self._backlog.lasts(began):
            wait_seconds = min(wait_seconds, self._backlog.good_until - began)
        else:
            with Deadline(connection, _QUERY_SECONDS):
                pending, now = look(connection)
                ended = time.monotonic()
                self._monitor.pings.send_if_due(connection)
            self._somebody_exports = now is not None and any(
                each.lease_until is not None and now < each.lease_until + _LINGER for each in pending
            )
            todo = None if now is None else agenda(pending, self._debounce, now)
            self._monitor.health.looked(pending, todo, now, ended - began)
            if todo is None or now is None:
                return wait_seconds
            if todo.unknown - self._reported:
                self._reported |= todo.unknown  # once each: one that cannot be helped must not keep the reconciler busy
                self._housekeeping_due.set()
            self._backlog = Backlog.found(todo.due, now, began, ended)
            if todo.next_due_in is not None:
                wait_seconds = min(wait_seconds, todo.next_due_in.total_seconds())
        if self._supervisor.stop.is_set():
            return wait_seconds
        running = {relid: pending for relid, (pending, _) in list(self._running.items())}
        pace = self._pace  # a reload may put another in its place
        allowed = pace.allowance(time.monotonic())
        started = startable(self._backlog.due.values(), running, self._config.export.concurrency, allowed)
        pace.take(sum(not each.has_files for each in started))
        for each in started:
            self._submit(pool, each, spool, pace, self._backlog.age_seconds(each, time.monotonic()))
        self._backlog.remove(started)
        if allowed == 0 and self._backlog.has_first_dumps:
            wait_seconds = min(wait_seconds, pace.seconds_to_next())
        return wait_seconds

    def _submit(self, pool: ThreadPoolExecutor, pending: Pending, spool: Path, pace: Pace, age_seconds: float) -> None:
        started = time.monotonic()
        try:
            future = pool.submit(self._dump, pending.relid, spool)
        except RuntimeError:
            if self._supervisor.stop.is_set():
                return  # the pool was shut down since we looked
            raise
        self._running[pending.relid] = (pending, future)

        def done(future: Future[bool | None]) -> None:
            del self._running[pending.relid]
            if not future.cancelled() and (error := future.exception()) is not None:
                self._supervisor.fail(error)
            elif not future.cancelled() and future.result():
                metrics.PUBLISH_DELAY.observe(age_seconds + time.monotonic() - started)
            elif not future.cancelled() and future.result() is None and not pending.has_files:
                pace.give_back()
            self._bell.ring()

        future.add_done_callback(done)

    def _dump(self, relid: int, spool: Path) -> bool | None:
        worker = self._worker(spool)
        settings = worker.settings
        try:
            return worker.dump(relid)
        except PASSING as error:
            # The lease runs out by itself, and the changes are still there.
            exports.ended(settings.selection.formats, "interrupted")
            log.warning("export_interrupted", relid=relid, error=error.message)
            # It may be that nobody can work now, and yet look for work: a standby in the primary's place, no connection left.
            self._supervisor.stop.wait(self._config.look.interval_seconds)
            return False
        finally:
            if self._settings is not settings:  # the reconciler had its say before this file was there
                self._housekeeping_due.set()

    def _worker(self, spool: Path) -> Worker:
        worker: Worker | None = getattr(self._local, "worker", None)
        if worker is None:
            worker = self._local.worker = Worker(
                self._database,
                self._standby,
                self._storage,
                self._leases,
                self._ownership,
                self._settings,
                self._processes,
                spool,
                self._abandon,
            )
            self._workers.append(worker)
        worker.settings = self._settings  # as they are now, for all of the next export
        return worker

    def _close_workers(self) -> None:
        for worker in self._workers:
            worker.close()
        self._processes.close()

    def _renew_leases(self) -> None:
        def work(connection: Connection) -> None:
            while not self._finished.wait(self._leases.ttl_seconds / 4):
                with Deadline(connection, self._leases.ttl_seconds / 2):
                    lost = self._leases.renew(connection)
                for lease in lost:
                    log.warning("lease_lost", resource_id=lease.resource_id)

        keep_connected(self._database, "renew leases", self._finished, work)

    def _keep_house(self) -> None:
        def work(connection: Connection) -> None:
            while not self._supervisor.stop.is_set():
                self._housekeeping_due.clear()
                self._house.round(connection)
                self._bell.ring()
                if not self._housekeeping_due.wait(self._config.look.reconcile_interval_seconds):
                    self._reported = frozenset()

        keep_connected(self._database, "keep house", self._supervisor.stop, work)

    def _reload(self) -> None:
        """Take over what a running daemon can. A configuration that is wrong changes nothing."""
        with self._reloading:  # what was read last is what counts
            self._read_and_take_over()

    def _read_and_take_over(self) -> None:
        if self._read_again is None:
            return
        self._monitor.reloading()
        try:
            taken, applied, needs_restart = take_over(self._config, self._read_again())
        except ConfigError as error:
            self._monitor.refused(error.message)
            log.error("config_refused", error=str(error))  # noqa: TRY400 - the message says all
            return
        self._config, self._settings, self._debounce = taken, work_settings(taken), debounce_of(taken)
        self._pace = Pace(taken.export.first_dumps_per_minute)
        configure_logging(taken.log.format, taken.log.level)
        self._monitor.configured(taken)
        self._housekeeping_due.set()  # other formats are for the reconciler to see to
        self._bell.ring()
        log.info("config_reloaded", applied=applied, needs_restart=needs_restart)

    def _start_watchdogs(self, is_exporting: Callable[[], bool]) -> None:
        self._supervisor.start("watch", lambda: watch(self._database, self._finished, is_exporting))
        if (standby := self._standby) is not None:
            self._supervisor.start("watch standby", lambda: standby.watch(self._finished))

    def _break_off(self) -> None:
        """At the second signal."""
        self._abandon.set()
        log.info("exports_broken_off", running=len(self._running))

    def _finish_or_abandon(self) -> None:
        """Let running exports finish within the timeout, then break them off: their tables are due for the next daemon.

        One that waits for a server that went silent does not heed that: then what it waits for is ended.
        """
        running = [future for _, future in list(self._running.values())]
        deadline = time.monotonic() + self._config.shutdown_timeout_seconds
        while (left := deadline - time.monotonic()) > 0 and wait(running, min(left, _TICK_SECONDS)).not_done:
            self._monitor.tick()
        self._abandon.set()
        running = [future for _, future in list(self._running.values())]  # one may have begun just as it all ended
        if stuck := wait(running, _HEED_SECONDS).not_done:
            log.warning("exports_cut_off", running=len(stuck))
            self._processes.kill()
            for worker in self._workers:
                worker.cut_off()
