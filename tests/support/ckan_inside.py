"""Runs inside CKAN's virtualenv: prepares a database, and serves the site. `ckan_site` starts it; it imports nothing of ours.

ckan_inside.py prepare <ckan.ini> <users as JSON>      prints {name: API token}
ckan_inside.py serve <ckan.ini> <listening fd> <fd to report readiness on> [<worker processes>]
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from pathlib import Path

# Plugins for tests, with the metadata that CKAN finds them by. On the path before CKAN is: 2.10 looks once, when imported.
sys.path.insert(0, str(Path(__file__).with_name("ckan_plugins")))


def prepare(ini: str, users: list[dict[str, object]]) -> None:
    """`ckan db init`, then the users: `{"name": ..., "sysadmin": bool}`."""
    from ckan.cli.cli import ckan

    ckan.main(args=["-c", ini, "db", "init"], standalone_mode=False)

    import ckan.logic as logic
    import ckan.model as model

    tokens = {}
    for user in users:
        name = user["name"]
        logic.get_action("user_create")(
            {"ignore_auth": True},
            {"name": name, "email": f"{name}@example.org", "password": os.urandom(12).hex()},
        )
        if user.get("sysadmin"):
            model.User.get(name).sysadmin = True
            model.Session.commit()
        tokens[name] = logic.get_action("api_token_create")(
            {"ignore_auth": True, "user": name}, {"user": name, "name": "tests"}
        )["token"]
    sys.stdout.write(json.dumps(tokens) + "\n")


def serve(ini: str, listener: int, ready: int) -> None:
    """Answer requests on a socket that listens already."""
    from ckan.cli import load_config
    from ckan.config.middleware import make_app

    application = make_app(load_config(ini))

    # Only now: setting up logging silences the loggers that are there already, and this one tells why a download broke off.
    import waitress.server  # type: ignore[import-untyped]

    server = waitress.server.create_server(application, sockets=[socket.socket(fileno=listener)], threads=8)
    os.write(ready, b"ready")
    os.close(ready)
    server.run()


def serve_by_workers(ini: str, listener: int, ready: int, workers: int) -> None:
    """The same with processes that answer one request at a time."""
    from ckan.cli import load_config
    from ckan.config.middleware import make_app
    from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]

    def report(worker: object) -> None:
        with contextlib.suppress(BrokenPipeError):  # nobody waits for the second one
            os.write(ready, b"ready")

    class Site(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            for name, value in {
                "bind": f"fd://{listener}",
                "workers": workers,
                "timeout": 0,  # or a dump that takes long would be killed
                "post_worker_init": report,
            }.items():
                self.cfg.set(name, value)

        def load(self) -> object:
            return make_app(load_config(ini))

    sys.argv = sys.argv[:1]  # which it reads, too
    Site().run()


if __name__ == "__main__":
    if sys.argv[1] == "prepare":
        prepare(sys.argv[2], json.loads(sys.argv[3]))
    elif len(sys.argv) == 5:
        serve(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        serve_by_workers(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
