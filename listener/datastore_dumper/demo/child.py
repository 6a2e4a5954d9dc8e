"""Child processes that die with us and that root may start as another user. What they do is up to the caller."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import IO

# Becomes the program. A process of its own does what `preexec_fn` could do, because that one may deadlock when other
# threads run. Order matters: the kernel forgets the death signal when the user changes (prctl(2), PR_SET_PDEATHSIG),
# and a parent that died before the call is noticed by its absence.
_BECOME = """
import ctypes, os, sys
parent, uid, gid, death_signal = map(int, sys.argv[1:5])
if uid >= 0:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
if ctypes.CDLL(None, use_errno=True).prctl(1, death_signal, 0, 0, 0) != 0:
    sys.exit("prctl(PR_SET_PDEATHSIG): " + os.strerror(ctypes.get_errno()))
if os.getppid() != parent:
    sys.exit("the parent process is gone")
os.execv(sys.argv[5], sys.argv[5:])
"""


@dataclass(frozen=True)
class Account:
    """A user to run as, and that user's group."""

    name: str
    uid: int
    gid: int


def unprivileged_account() -> Account | None:
    """Whom to run a server as that refuses root: `nobody` when we are root, `None` (nobody else) when we are not."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam("nobody")
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def start_child(
    argv: Sequence[str | Path],
    *,
    account: Account | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    output: int | IO[bytes] = subprocess.DEVNULL,
    death_signal: signal.Signals = signal.SIGTERM,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a program that gets `death_signal` when this process ends, whatever ended it.

    `argv[0]` is a path; stdout and stderr go to `output`; Ctrl-C on our terminal does not reach it (own session).
    Raises `OSError` when it cannot be started; a program that cannot be executed ends with a message in `output`.
    """
    uid, gid = (account.uid, account.gid) if account else (-1, -1)
    command = [sys.executable, "-I", "-S", "-c", _BECOME, str(os.getpid()), str(uid), str(gid), str(int(death_signal))]
    command += [os.fspath(argument) for argument in argv]
    started: Future[subprocess.Popen[bytes]] = Future()

    def keep() -> None:
        try:
            process = subprocess.Popen(  # noqa: S603 - the caller's program
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=cwd,
                start_new_session=True,
                pass_fds=pass_fds,
            )
        except BaseException as error:  # noqa: BLE001 - goes to the caller's thread
            started.set_exception(error)
            return
        started.set_result(process)
        process.wait()

    # To the kernel the parent is the thread that forked: this one stays until the child is gone.
    threading.Thread(target=keep, name=f"keeper of {Path(argv[0]).name}", daemon=True).start()
    return started.result()


def stop_child(process: subprocess.Popen[bytes], signals: Sequence[tuple[signal.Signals, float]]) -> None:
    """Send each signal in turn and wait its seconds; a child that outlives them all is killed."""
    for number, seconds in signals:
        if process.poll() is not None:
            return
        process.send_signal(number)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
    if process.poll() is None:
        process.kill()
        process.wait()
