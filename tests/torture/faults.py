"""Does to the arena and the fleet what an action of the plan says, and undoes it when its time is over."""

from __future__ import annotations

import errno
import random
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psycopg

from tests.support.faulty_front import (
    COMPLETED_WITH_ERROR,
    FORBIDDEN,
    INTERNAL_ERROR,
    SLOW_DOWN,
    Lost,
    Reply,
    Request,
    Truncated,
)
from tests.torture.arena import Arena
from tests.torture.fleet import Fleet, kill
from tests.torture.plan import Action

_KILLS = {"kill", "kill_worker"}
_REPLIES: dict[str, tuple[Reply, frozenset[str] | None]] = {
    # What is answered, and to which operations (None: all).
    "s3_internal_error": (INTERNAL_ERROR, None),
    "s3_slow_down": (SLOW_DOWN, None),
    "s3_forbidden": (FORBIDDEN, None),
    "s3_lost_answers": (Lost(), None),
    "s3_truncated_bodies": (Truncated(), frozenset({"get", "list", "create", "complete", "copy"})),
    "s3_completed_with_error": (COMPLETED_WITH_ERROR, frozenset({"complete", "copy"})),
}
_FILL_BYTES = 1 << 20


class Faults:
    """Carries out a plan. `frozen` tells whether anything is frozen now: then waits for a COPY's lock may take longer."""

    def __init__(self, arena: Arena, fleet: Fleet, say: Callable[[str], None]) -> None:
        self.done: Counter[str] = Counter()
        self.problems: list[str] = []
        self._arena = arena
        self._fleet = fleet
        self._say = say
        self._s3: dict[Action, random.Random] = {}
        self._thawed_at = float("-inf")
        self._silent = 0
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        if arena.front is not None:
            arena.front.fault = self._reply

    @property
    def kills(self) -> int:
        return sum(count for kind, count in self.done.items() if kind in _KILLS)

    @property
    def faults(self) -> int:
        return self.done.total() - self.kills

    def frozen_within(self, seconds: float) -> bool:
        return self._fleet.is_any_frozen or self._silent > 0 or time.monotonic() - self._thawed_at < seconds

    def carry_out(self, plan: tuple[Action, ...], stop: threading.Event) -> None:
        """Start every action at its time. Returns after the last one is undone."""
        started = time.monotonic()
        for action in plan:
            if stop.wait(max(started + action.at - time.monotonic(), 0)):
                break
            thread = threading.Thread(target=self._run, args=(action,), name=action.kind, daemon=True)
            self._threads.append(thread)
            thread.start()
        for thread in self._threads:
            thread.join()

    def _run(self, action: Action) -> None:
        try:
            happened = getattr(self, f"_{action.kind}", self._fail_s3)(action)
        except (psycopg.Error, OSError) as error:
            if action.kind == "crash_postgres":
                self.problems.append(f"{action.kind}: {error}")
            self._say(f"  {action.kind} came to nothing: {error}")
            return
        if happened is not False:
            self.done[action.kind] += 1

    def _kill(self, action: Action) -> bool:
        member = self._fleet.members[action.daemon]
        member.may_start_at = time.monotonic() + action.lasts
        return member.signal(signal.SIGKILL)

    def _terminate(self, action: Action) -> bool:
        member = self._fleet.members[action.daemon]
        member.may_start_at = time.monotonic() + action.lasts
        return member.signal(signal.SIGTERM)

    def _kill_worker(self, action: Action) -> bool:
        workers = self._fleet.members[action.daemon].workers()
        return bool(workers) and kill(workers[int(action.share * len(workers)) % len(workers)])

    def _freeze(self, action: Action) -> bool:
        member = self._fleet.members[action.daemon]
        with self._lock:
            if member.is_frozen or not member.signal(signal.SIGSTOP):
                return False
            member.is_frozen = True
        _last(action)
        member.signal(signal.SIGCONT)
        member.is_frozen = False
        self._thawed_at = time.monotonic()
        return True

    def _cut(self, action: Action) -> None:
        self._arena.proxies[action.daemon].cut()

    def _refuse(self, action: Action) -> None:
        self._for_a_while(action, lambda: self._arena.proxies[action.daemon].refuse())

    def _silence(self, action: Action) -> None:
        with self._lock:
            self._silent += 1
        try:
            self._for_a_while(action, lambda: self._arena.proxies[action.daemon].freeze())
        finally:
            with self._lock:
                self._silent -= 1
            self._thawed_at = time.monotonic()

    def _delay(self, action: Action) -> None:
        self._for_a_while(action, lambda: self._arena.proxies[action.daemon].delay(action.share / 5))

    def _deaf(self, action: Action) -> None:
        self._for_a_while(action, self._arena.proxies[action.daemon].drop_notifications)

    def _end_session(self, action: Action) -> bool:
        with self._arena.connect() as admin:
            rows = admin.execute(
                "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'datastore-dumper%' ORDER BY pid"
            ).fetchall()
            if rows:
                admin.execute("SELECT pg_terminate_backend(%s)", rows[int(action.share * len(rows)) % len(rows)])
        return bool(rows)

    def _crash_postgres(self, action: Action) -> None:
        self._arena.crash_postgres()

    def _clean_spool(self, action: Action) -> bool:
        found = [
            path
            for path in (self._arena.dumpers[action.daemon].directory / "spool").iterdir()
            if path.name.startswith("datastore-dumper-spool-")
        ]
        for path in found:
            shutil.rmtree(path, ignore_errors=True)
        return bool(found)

    def _disk_full(self, action: Action) -> bool:
        if self._arena.files is None:
            return False
        filler = self._arena.files / f".filler-{action.at}"
        try:
            _fill(filler)
            _last(action)
        finally:
            filler.unlink(missing_ok=True)
        return True

    def _fail_s3(self, action: Action) -> None:
        with self._lock:
            self._s3[action] = random.Random(action.at)
        _last(action)
        with self._lock:
            del self._s3[action]

    def _reply(self, request: Request) -> Reply | None:
        with self._lock:
            for action, dice in self._s3.items():
                reply, operations = _REPLIES[action.kind]
                if (operations is None or request.operation in operations) and dice.random() < action.share:
                    return reply
        return None

    def _for_a_while(self, action: Action, begin: Callable[[], None]) -> None:
        begin()
        _last(action)
        self._arena.proxies[action.daemon].restore()


def _last(action: Action) -> None:
    """While a fault lasts."""
    time.sleep(action.lasts)  # the plan says how long; nothing happens that could end it


def _fill(path: Path) -> None:
    """Until there is no room for a byte."""
    size = _FILL_BYTES
    with path.open("wb", buffering=0) as file:
        while size:
            try:
                file.write(b"\0" * size)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                size //= 2
