"""Runs inside CKAN's virtualenv: prepares a database, and serves the site. `ckan_site` starts it; it imports nothing of ours.

ckan_inside.py prepare <ckan.ini> <users as JSON>      prints {name: API token}
ckan_inside.py serve <ckan.ini> <listening fd> <fd to report readiness on>
"""

from __future__ import annotations

import json
import os
import socket
import sys


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


if __name__ == "__main__":
    if sys.argv[1] == "prepare":
        prepare(sys.argv[2], json.loads(sys.argv[3]))
    else:
        serve(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
