"""The command line `datastore-dumper`: one module for each command. This one holds the group, errors and exit codes."""

from __future__ import annotations

import signal
import sys

import click

from datastore_dumper import __version__
from datastore_dumper.cli.adopt import adopt
from datastore_dumper.cli.check import check
from datastore_dumper.cli.config import config
from datastore_dumper.cli.demo import demo
from datastore_dumper.cli.dump import dump
from datastore_dumper.cli.gc import gc
from datastore_dumper.cli.install import install, uninstall
from datastore_dumper.cli.run import run
from datastore_dumper.cli.status import status
from datastore_dumper.cli.verify import verify
from datastore_dumper.errors import DumperError
from datastore_dumper.logs import mask_text

_INTERRUPTED = 130  # as shells report SIGINT


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="datastore-dumper")
def cli() -> None:
    """Ready-made DataStore dumps for CKAN: a file once per change instead of once per download."""


for command in (run, check, status, dump, verify, gc, install, uninstall, adopt, config, demo):
    cli.add_command(command)


def main() -> None:
    """Run the command line and exit: 0, or the code of the error (docs/reference/exit-codes.md)."""
    # What holds a lease, a file or the terminal lets go of it on the way out, as with Ctrl-C.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        result = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        sys.exit(_INTERRUPTED)
    except DumperError as error:
        click.echo(mask_text(f"Error: {error}"), err=True)
        sys.exit(error.exit_code)
    sys.exit(result if isinstance(result, int) else 0)
