"""Real CKAN sites for tests: databases, Redis, a Solr stand-in, and a production HTTP server on a loopback port.

`CkanPlatform` has what all sites share and is made once per session; `CkanSite` is one running CKAN. The virtualenv comes
from `ckan_env`, what runs in it is `ckan_inside`.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import urllib3
from psycopg import sql

from datastore_dumper.demo.child import start_child, stop_child
from datastore_dumper.demo.private_directory import PrivateDirectory
from tests.support.ckan_env import CkanEnvironment
from tests.support.datastore import READ_ROLE, WRITE_ROLE
from tests.support.postgres import PostgresServer
from tests.support.redis import redis_server
from tests.support.solr import solr_stand_in

MAIN_ROLE = "ckan_main"  # owns CKAN's own database
SYSADMIN = "admin"
USER = "visitor"  # logged in, in no organization

_PREFIX = "datastore-dumper-ckan-"
_INSIDE = Path(__file__).with_name("ckan_inside.py")
# Isolated: the modules beside the script are not for CKAN to import. Unbuffered: the log tells all when CKAN is killed.
_PYTHON_OPTIONS = ("-I", "-u")
_START_SECONDS = 120
_LOGGING = """
[loggers]
keys = root, ckan, ckanext

[handlers]
keys = console

[formatters]
keys = plain

[logger_root]
level = WARNING
handlers = console

[logger_ckan]
level = INFO
handlers =
qualname = ckan

[logger_ckanext]
level = DEBUG
handlers =
qualname = ckanext

[handler_console]
class = StreamHandler
args = (sys.stderr,)
formatter = plain

[formatter_plain]
format = %(asctime)s %(levelname)s [%(name)s] %(message)s
"""


class CkanError(Exception):
    """CKAN answered an API call with an error: HTTP status and the `error` of its JSON, or what it logged if it crashed."""

    def __init__(self, action: str, status: int, error: object) -> None:
        super().__init__(f"{action}: {status} {error}")
        self.status = status
        self.error = error


@dataclass(frozen=True)
class Databases:
    """CKAN's own database and the DataStore."""

    main: str
    datastore: str


@dataclass
class CkanPlatform:
    """Everything that sites share. Tokens are of users that every new site has."""

    environment: CkanEnvironment
    postgres: PostgresServer
    redis_url: str
    solr_url: str
    template: Databases
    tokens: dict[str, str] = field(repr=False)
    secret_key: str = field(repr=False)

    @classmethod
    @contextmanager
    def start(cls, environment: CkanEnvironment, postgres: PostgresServer) -> Iterator[CkanPlatform]:
        """Start the services and prepare the databases that sites get copies of."""
        with ExitStack() as stack:
            postgres.create_roles(MAIN_ROLE)
            template = Databases(
                postgres.create_database("ckan_main_template", owner=MAIN_ROLE),
                postgres.create_database("ckan_datastore_template"),
            )
            stack.callback(postgres.drop_database, template.main)
            stack.callback(postgres.drop_database, template.datastore)
            platform = cls(
                environment,
                postgres,
                stack.enter_context(redis_server(environment.redis_server)),
                stack.enter_context(solr_stand_in()),
                template,
                {},
                secrets.token_urlsafe(32),
            )
            platform._prepare()
            yield platform

    @property
    def version(self) -> str:
        """CKAN's minor version."""
        return self.environment.version

    @contextmanager
    def databases(self) -> Iterator[Databases]:
        """Copies of the prepared databases."""
        with (
            self.postgres.new_database("ckan_main", template=self.template.main) as main,
            self.postgres.new_database("ckan_datastore", template=self.template.datastore) as datastore,
        ):
            yield Databases(main, datastore)

    @contextmanager
    def site(
        self,
        plugins: Sequence[str] = ("datastore",),
        settings: Mapping[str, str] | None = None,
        *,
        before_start: Callable[[Databases], None] = lambda databases: None,
    ) -> Iterator[CkanSite]:
        """A running CKAN with databases of its own, which `before_start` may alter before CKAN connects to them."""
        with (
            self.databases() as databases,
            closing(PrivateDirectory.make(_PREFIX, None)) as private,
            socket.create_server(("127.0.0.1", 0), backlog=128) as listener,
        ):
            before_start(databases)
            site = CkanSite(self, databases, private.path, listener)
            try:
                site.restart(plugins, settings)
                yield site
            finally:
                site.stop()

    def write_ini(
        self, directory: Path, databases: Databases, url: str, plugins: Sequence[str], settings: Mapping[str, str]
    ) -> Path:
        values = {
            "SECRET_KEY": self.secret_key,
            "beaker.session.secret": self.secret_key,  # what CKAN 2.10 reads instead
            "WTF_CSRF_SECRET_KEY": self.secret_key,
            "ckan.site_id": f"tests-{databases.main}",
            "ckan.site_url": url,
            "ckan.plugins": " ".join(plugins),
            "ckan.auth.create_unowned_dataset": "true",  # a dataset needs no organization
            "ckan.storage_path": str(directory / "storage"),
            "ckan.redis.url": self.redis_url,
            "ckan.datastore.write_url": self.postgres.url(databases.datastore, WRITE_ROLE),
            "ckan.datastore.read_url": self.postgres.url(databases.datastore, READ_ROLE),
            "solr_url": self.solr_url,
            "sqlalchemy.url": self.postgres.url(databases.main, MAIN_ROLE),
            **settings,
        }
        lines = ["[app:main]", *(f"{name} = {value.replace('%', '%%')}" for name, value in values.items())]
        path = directory / "ckan.ini"
        path.touch(mode=0o600)  # it holds passwords
        path.write_text("\n".join(lines) + "\n" + _LOGGING, encoding="utf-8")
        return path

    def _prepare(self) -> None:
        self._set_permissions()
        users = json.dumps([{"name": SYSADMIN, "sysadmin": True}, {"name": USER}])
        with closing(PrivateDirectory.make(_PREFIX, None)) as private:
            ini = self.write_ini(private.path, self.template, "http://127.0.0.1", ["datastore"], {})
            result = subprocess.run(
                [self.environment.python, *_PYTHON_OPTIONS, _INSIDE, "prepare", ini, users],
                env=self.environment.environ(),
                cwd=private.path,
                capture_output=True,
                text=True,
                timeout=_START_SECONDS,
                check=False,
            )
        if result.returncode != 0:
            raise RuntimeError(f"preparing CKAN's database failed:\n{result.stdout[-2000:]}{result.stderr[-4000:]}")
        self.tokens.update(json.loads(result.stdout.splitlines()[-1]))

    def _set_permissions(self) -> None:
        """What `ckan datastore set-permissions | psql` does, with CKAN's own SQL. We are connected where it would connect to."""
        template = (self.environment.site_packages / "ckanext" / "datastore" / "set_permissions.sql").read_text()
        with self.postgres.connect(self.template.datastore) as connection:
            names = {
                "datastoredb": self.template.datastore,
                "maindb": self.template.main,
                "mainuser": MAIN_ROLE,
                "writeuser": WRITE_ROLE,
                "readuser": READ_ROLE,
            }
            quoted = {name: sql.Identifier(value).as_string(connection) for name, value in names.items()}
            script = template.format(**quoted).replace(f"\\connect {quoted['datastoredb']}", "")
            connection.execute(script.encode())


@dataclass
class CkanSite:
    """One CKAN. Its URL stays the same when it is restarted."""

    platform: CkanPlatform
    databases: Databases
    directory: Path
    listener: socket.socket
    process: subprocess.Popen[bytes] | None = None
    http: urllib3.PoolManager = field(
        default_factory=lambda: urllib3.PoolManager(timeout=urllib3.Timeout(60), retries=False), repr=False
    )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    @property
    def datastore_dsn(self) -> str:
        """The superuser's connection string to the DataStore."""
        return self.platform.postgres.dsn(self.databases.datastore)

    @property
    def logs(self) -> str:
        """What CKAN has logged since the site was made."""
        return (self.directory / "ckan.log").read_text(errors="replace")

    def restart(
        self,
        plugins: Sequence[str] = ("datastore",),
        settings: Mapping[str, str] | None = None,
        *,
        workers: int | None = None,
    ) -> None:
        """Stop if it runs, and start with other plugins and additional settings. Databases stay as they are.

        One process with threads (waitress), or `workers` processes that answer one request at a time (gunicorn).
        """
        self.stop()
        ini = self.platform.write_ini(self.directory, self.databases, self.url, plugins, settings or {})
        ready, report = os.pipe()
        with os.fdopen(ready, "rb", buffering=0) as reader, (self.directory / "ckan.log").open("ab") as log:
            try:
                environment = self.platform.environment
                self.process = start_child(
                    [
                        environment.python,
                        *_PYTHON_OPTIONS,
                        _INSIDE,
                        "serve",
                        ini,
                        str(self.listener.fileno()),
                        str(report),
                        *([str(workers)] if workers else []),
                    ],
                    env=environment.environ(),
                    cwd=self.directory,
                    output=log,
                    pass_fds=(self.listener.fileno(), report),
                )
            finally:
                os.close(report)
            # The pipe closes when the process ends, too.
            if not select.select([reader], [], [], _START_SECONDS)[0] or reader.read(5) != b"ready":
                self.stop()
                raise RuntimeError(f"CKAN did not start:\n{self.logs[-6000:]}")

    def stop(self) -> None:
        if self.process is not None:
            stop_child(self.process, ((signal.SIGTERM, 10.0),))
            self.process = None

    def get(
        self, path: str, *, method: str = "GET", token: str | None = None, **headers: str
    ) -> urllib3.BaseHTTPResponse:
        """One request, without following redirects."""
        if token:
            headers["Authorization"] = token
        return self.http.request(method, self.url + path, headers=headers, redirect=False)

    def action(self, name: str, /, *, token: str | None = None, **data: object) -> Any:
        """Call the API, as the sysadmin unless another token (or "" for nobody) is given. Raises `CkanError`."""
        token = self.platform.tokens[SYSADMIN] if token is None else token
        response = self.http.request(
            "POST", f"{self.url}/api/3/action/{name}", json=data, headers={"Authorization": token} if token else {}
        )
        try:
            answer = response.json()
        except ValueError:
            raise CkanError(name, response.status, response.data[:2000]) from None
        if not answer.get("success"):
            error = answer.get("error") if response.status < 500 else self.logs[-3000:]
            raise CkanError(name, response.status, error)
        return answer["result"]
