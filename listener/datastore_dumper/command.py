"""The entry point of `datastore-dumper`. In a virtualenv that has only what CKAN's plugin needs, it says what is missing."""

from __future__ import annotations

import signal
import sys

from datastore_dumper.errors import EXIT_CONFIG


def main() -> None:
    """Run the command line."""
    try:
        from datastore_dumper.cli import main as run
    except KeyboardInterrupt:  # in the moment that loading takes; afterwards the command line sees to it
        sys.stderr.write("Interrupted.\n")
        sys.exit(128 + signal.SIGINT)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("datastore_dumper"):
            raise
        sys.stderr.write(
            f"Error: the daemon's packages are not installed here: there is no {error.name}\n"
            "Install them: pip install 'ckanext-datastore-dumper[listener]'\n"
        )
        sys.exit(EXIT_CONFIG)
    run()
