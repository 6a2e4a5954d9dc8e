"""A fresh CKAN to try things on, with Postgres and an S3 service of its own: `make portal`. The tutorial is played on it.

All of it is on loopback, in directories that go with it. What programs need to know is in `build/portal/env`, for the shell.
What is written into `build/portal/plugin.ini` becomes part of CKAN's ini when it is restarted: by Enter.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.ckan_env import CHECKOUT, ckan_environment
from tests.support.ckan_site import SYSADMIN, CkanPlatform, CkanSite
from tests.support.datastore import DUMPER_ROLE
from tests.support.postgres import running_server
from tests.support.seaweedfs import S3Server, running_s3

DIRECTORY = CHECKOUT / "build" / "portal"


@dataclass(frozen=True)
class Portal:
    """A running CKAN, and the directory where it says how to reach it."""

    site: CkanSite
    directory: Path

    def restart(self) -> None:
        """Restart CKAN with what plugin.ini says."""
        lines = (self.directory / "plugin.ini").read_text(encoding="utf-8").splitlines()
        settings = {
            name.strip(): value.strip() for name, found, value in (line.partition("=") for line in lines) if found
        }
        self.site.restart(settings.pop("ckan.plugins").split(), settings)


@contextmanager
def portal(directory: Path, platform: CkanPlatform, s3: S3Server) -> Iterator[Portal]:
    """A CKAN as it is without this project, and an empty bucket."""
    with platform.site(["datastore"]) as site, s3.new_bucket() as bucket:
        known = {
            "CKAN_URL": site.url,
            "TOKEN": platform.tokens[SYSADMIN],
            "SUPERUSER_DSN": site.datastore_dsn,
            "DAEMON_DSN": platform.postgres.dsn(site.databases.datastore, DUMPER_ROLE),
            "S3_ENDPOINT": s3.endpoint,
            "S3_BUCKET": bucket,
            "S3_ACCESS_KEY": s3.access_key,
            "S3_SECRET_KEY": s3.secret_key,
        }
        env = directory / "env"
        env.touch(mode=0o600)  # it holds passwords
        env.write_text(
            "".join(f"export {name}={shlex.quote(value)}\n" for name, value in known.items()), encoding="utf-8"
        )
        (directory / "plugin.ini").write_text("ckan.plugins = datastore\n", encoding="utf-8")
        yield Portal(site, directory)


def main() -> None:
    """Run one until the end of input."""
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    with (
        running_server() as server,
        running_s3() as s3,
        CkanPlatform.start(ckan_environment(), server) as platform,
        portal(DIRECTORY, platform, s3) as running,
    ):
        said = f"CKAN {platform.version} is at {running.site.url}. Enter restarts it, Ctrl-D ends all."
        sys.stdout.write(f"{said}\n")
        sys.stdout.flush()
        for _ in sys.stdin:
            running.restart()
            sys.stdout.write(f"Restarted. {said}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
