"""`datastore-dumper demo`: people read standard error, programs the one line on standard output."""

from __future__ import annotations

import click
from rich.console import Console

from datastore_dumper.demo.data import FLIGHTS
from datastore_dumper.demo.datastore import MIN_ROWS
from datastore_dumper.demo.interruption import Interrupted
from datastore_dumper.demo.scenario import Measured, run_demo
from datastore_dumper.demo.show import Show
from datastore_dumper.errors import EXIT_FAILURE, DumperError


@click.command()
@click.option("--keep", is_flag=True, help="Leave it running until Ctrl-C, and say how to look around.")
@click.option(
    "--rows",
    type=click.IntRange(MIN_ROWS, FLIGHTS),
    default=FLIGHTS,
    show_default=True,
    help="How many flights to load.",
)
def demo(keep: bool, rows: int) -> int:
    """Play the whole of it on a private Postgres, with nothing to set up, and leave nothing behind.

    The last line of standard output is one JSON object with what was measured and checked.
    """
    show = Show(Console(stderr=True))
    measured = Measured()
    status, reason = 0, ""
    try:
        run_demo(show, measured, rows=rows, keep=keep)
    except DumperError as error:
        show.failed(str(error))
        status, reason = error.exit_code, error.message
    except OSError as error:  # no room for its files, say
        show.failed(str(error))
        status, reason = EXIT_FAILURE, str(error)
    except Interrupted as interrupted:
        show.failed(f"interrupted by {interrupted}")
        status, reason = interrupted.exit_code, f"interrupted by {interrupted}"
    click.echo(measured.to_json(ok=status == 0, reason=reason))
    return status
