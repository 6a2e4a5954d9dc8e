"""Claims a table for one daemon, and lets go of it. The lease is a row; its epoch is what publishing compares."""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from datastore_dumper.database import Connection
from datastore_dumper.errors import LeaseLostError
from datastore_dumper.failpoints import failpoint
from datastore_dumper.sqlfiles import query

# A holder stops trusting its lease this share of the lifetime before Postgres would give it to somebody else.
_TRUST = 0.75


def owner_name() -> str:
    """Of this process: for people, the machine and the process id; and unlike that of any other."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


@dataclass(eq=False)
class Lease:
    """A table that this daemon may export and publish, until `trusted_until` (monotonic seconds of this process)."""

    relid: int
    resource_id: str
    owner: str
    epoch: int
    attempts: int
    """Exports that failed in a row before this one."""
    trusted_until: float
    ttl_seconds: float
    requested_at: datetime | None = None
    """When somebody asked for this export, by the database's clock."""
    is_full: bool = False
    """Nothing that is published shall be reused."""
    exported_rows: int = 0
    expected_rows: int | None = None
    asked_at: datetime | None = None
    """When a visitor of CKAN last asked for a file of it."""
    claimed_at: datetime | None = None
    """By the database's clock."""
    lost: bool = field(default=False)

    def require(self) -> None:
        """Raises `LeaseLostError` once the lease may no longer be ours."""
        if self.lost or time.monotonic() > self.trusted_until:
            raise LeaseLostError(f"The lease on {self.resource_id} ran out: another daemon may export it now")


class Leases:
    """The leases of this process. Claiming and renewing may happen in different threads."""

    def __init__(self, owner: str, ttl_seconds: float) -> None:
        self.owner = owner
        self.ttl_seconds = ttl_seconds
        self._held: dict[int, Lease] = {}
        self._lock = threading.Lock()

    def claim(self, connection: Connection, relid: int) -> Lease | None:
        """The lease on a table, or None if somebody else has it or it is gone. It is renewed until `drop`."""
        before = time.monotonic()
        failpoint("before_claim")
        row = connection.execute(
            query("claim"), {"relid": relid, "owner": self.owner, "ttl_seconds": self.ttl_seconds}
        ).fetchone()
        if row is None:
            return None
        failpoint("after_claim")
        resource_id, epoch, attempts, requested_at, is_full, asked_at, claimed_at = row
        trusted_until = before + self.ttl_seconds * _TRUST
        lease = Lease(
            relid,
            resource_id,
            self.owner,
            epoch,
            attempts,
            trusted_until,
            self.ttl_seconds,
            requested_at,
            is_full,
            asked_at=asked_at,
            claimed_at=claimed_at,
        )
        with self._lock:
            self._held[relid] = lease
        return lease

    def held(self) -> list[Lease]:
        """The leases that are being renewed."""
        with self._lock:
            return list(self._held.values())

    def renew(self, connection: Connection) -> list[Lease]:
        """Renew all leases in one statement and write down how far the exports are. Returns those that are lost."""
        with self._lock:
            held = list(self._held.values())
        failpoint("before_renew")
        if not held:
            return []
        before = time.monotonic()
        renewed = {
            relid
            for (relid,) in connection.execute(
                query("renew"),
                {
                    "relids": [lease.relid for lease in held],
                    "epochs": [lease.epoch for lease in held],
                    "exported": [lease.exported_rows for lease in held],
                    "expected": [lease.expected_rows for lease in held],
                    "owner": self.owner,
                    "ttl_seconds": self.ttl_seconds,
                },
            )
        }
        failpoint("after_renew")
        lost = []
        for lease in held:
            if lease.relid in renewed:
                lease.trusted_until = before + self.ttl_seconds * _TRUST
            elif self._is_held(lease):
                lease.lost = True
                lost.append(lease)
        return lost

    def _is_held(self, lease: Lease) -> bool:
        with self._lock:
            return self._held.get(lease.relid) is lease

    def drop(self, lease: Lease) -> None:
        """Stop renewing a lease."""
        with self._lock:
            if self._held.get(lease.relid) is lease:
                del self._held[lease.relid]

    @contextmanager
    def dropping(self, lease: Lease) -> Iterator[Lease]:
        """Stop renewing at the end, however it ends."""
        try:
            yield lease
        finally:
            self.drop(lease)


def release(connection: Connection, lease: Lease, *, error: str | None, retry_seconds: float) -> None:
    """Give a table back unpublished: with the error that is shown in the status, and not to be tried before `retry_seconds`."""
    failpoint("before_release")
    connection.execute(
        query("release"),
        {
            "relid": lease.relid,
            "epoch": lease.epoch,
            "owner": lease.owner,
            "error": error,
            "retry_seconds": retry_seconds,
        },
    )
    failpoint("after_release")
