"""One daemon under watch: what its parts report goes to health, metrics, the service manager, and whoever is called.

Everything here is told, and decides nothing: a daemon that nobody watches works just the same.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager

from datastore_dumper import __version__
from datastore_dumper.config import Config
from datastore_dumper.lease import Leases
from datastore_dumper.lifecycle import Supervisor
from datastore_dumper.monitor import metrics
from datastore_dumper.monitor.health import PENDING_STATES, Facts, Health
from datastore_dumper.monitor.heartbeat import Heartbeat
from datastore_dumper.monitor.pings import NOTIFY_STATES, Pings
from datastore_dumper.monitor.service_manager import ServiceManager
from datastore_dumper.monitor.snapshots import count_and_age_seconds
from datastore_dumper.monitor.web import serving

_STOPPING_SECONDS = 60  # beyond shutdown_timeout_seconds: for what is cut off, and for the rest of the way out


class Monitor:
    """What the daemon reports to."""

    def __init__(self, config: Config, leases: Leases, formats: Iterable[str]) -> None:
        """`formats`: all that any table may have."""
        self.health = Health(
            Facts(
                look_interval_seconds=config.look.interval_seconds,
                reconcile_interval_seconds=config.look.reconcile_interval_seconds,
                started_at=time.monotonic(),
            ),
            connect_seconds=config.database.connect_timeout_seconds,
        )
        self.pings = Pings(self.health.heard)
        self._leases = leases
        self._listen = config.monitor.listen
        url = config.monitor.heartbeat_url
        self._heartbeat = None if url is None else Heartbeat(url.get_secret_value())
        self._manager = ServiceManager()
        self._is_ready = False
        self._told_turn = self.health.turned_at
        metrics.begin(formats)
        self.configured(config)

    def serving(self) -> AbstractContextManager[None]:
        """Answer HTTP requests during the block. Raises `DumperError` if the address is not to be had."""
        return serving(self._listen, self.health, self._write_gauges)

    def start(self, supervisor: Supervisor) -> None:
        """Start what needs a thread of its own."""
        if (heartbeat := self._heartbeat) is not None:
            supervisor.on_stop(heartbeat.beat)
            supervisor.start("heartbeat", lambda: heartbeat.run(supervisor.stop))

    def tick(self) -> None:
        """For the main thread, every second: tell the service manager how it goes, but not that all is well unless the loop
        that looks has come round since."""
        facts = self.health.facts
        if not self._is_ready and facts.looked_at is not None:
            self._is_ready = True
            self._manager.ready(self._status())
        elif self._is_ready:
            self._manager.status(self._status())
        turned = self.health.turned_at
        if self._is_ready and (turned != self._told_turn or facts.stopping):
            self._told_turn = turned
            self._manager.alive()

    def house_kept(self) -> None:
        """A round of housekeeping came to its end."""
        if self._heartbeat is not None and self.health.verdict().status != "unready":
            self._heartbeat.beat()

    def reloading(self) -> None:
        """The configuration is being read again; `configured` or `refused` says what came of it."""
        self._manager.reloading()

    def configured(self, config: Config) -> None:
        """This is the configuration from now on."""
        self.health.configured(
            None, look=config.look.interval_seconds, reconcile=config.look.reconcile_interval_seconds
        )
        self._told_reload()

    def refused(self, error: str) -> None:
        """The configuration stays as it was."""
        facts = self.health.facts
        self.health.configured(error, look=facts.look_interval_seconds, reconcile=facts.reconcile_interval_seconds)
        self._told_reload()

    def stopping(self, timeout_seconds: float) -> None:
        """Nothing new is begun; what runs may take so long."""
        self.health.stopping()
        self._manager.stopping(timeout_seconds + _STOPPING_SECONDS)

    def _told_reload(self) -> None:
        if self._is_ready:
            self._manager.ready(self._status())

    def _status(self) -> str:
        facts, verdict = self.health.facts, self.health.verdict()
        work = ", ".join(f"{facts.count(state)} {state}" for state in PENDING_STATES)
        return f"{verdict.status}{''.join(f' ({each.code})' for each in verdict.reasons)}; tables: {work}"

    def _write_gauges(self) -> None:
        facts, verdict = self.health.facts, self.health.verdict()
        metrics.BUILD_INFO.labels(__version__, platform.python_version()).set(1)
        metrics.READY.set(verdict.status != "unready")
        metrics.OLDEST_CHANGE_AGE.set(self.health.oldest_change_age_seconds())
        for state in PENDING_STATES:
            metrics.PENDING_RESOURCES.labels(state).set(facts.count(state))
        for notify in NOTIFY_STATES:
            metrics.NOTIFY_STATE.labels(notify).set(facts.notify == notify)
        metrics.LEASES_HELD.set(len(self._leases.held()))
        snapshots, age_seconds = count_and_age_seconds()
        metrics.SNAPSHOTS_HELD.set(snapshots)
        metrics.SNAPSHOT_AGE.set(age_seconds)
        metrics.UNATTACHED_RESOURCES.set(facts.unattached)
