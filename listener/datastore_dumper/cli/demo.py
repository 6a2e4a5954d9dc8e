"""`datastore-dumper demo`."""

from __future__ import annotations

import click


@click.command()
def demo() -> None:
    """The whole of it on a private embedded Postgres, with nothing to set up."""
