"""Checks of the configuration beyond what makes it valid: who else can read the secrets in it."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from datastore_dumper.checks.results import Result, Subject, ok, warning
from datastore_dumper.config.fields import Setting, settings, value_of


def secrets(subject: Subject) -> Iterator[Result]:
    """Files with a password or a key in them are for nobody but us."""
    exposed = sorted({str(path) for path in _secret_files(subject) if _others_may_read(path)})
    if exposed:
        mend = f"chmod o-r {' '.join(exposed)}, or keep the secret in a file of its own (dsn_file, secret_key_file)."
        yield warning("config.secrets", f"everybody on this machine can read the secrets in {', '.join(exposed)}", mend)
    else:
        yield ok("config.secrets", "no secret is in a file that everybody can read")


def _secret_files(subject: Subject) -> Iterator[Path]:
    """Those that hold a secret that is in use, whichever source of settings they are."""
    for setting in settings().values():
        file = subject.loaded.files.get(setting.name)
        if setting.secret and file is not None and _is_secret(setting, value_of(subject.config, setting.path)):
            yield file


def _is_secret(setting: Setting, value: object) -> bool:
    """A connection string is one only if there is a password in it."""
    if not isinstance(value, SecretStr):
        return False
    if not setting.path[-1].endswith("dsn"):
        return True
    return bool(conninfo_to_dict(value.get_secret_value()).keys() & {"password", "sslpassword"})


def _others_may_read(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False  # a pipe or a credential that is gone since
