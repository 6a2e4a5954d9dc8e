"""`datastore-dumper check`: says whether everything the daemon needs is as it must be, and how to mend what is not."""

from __future__ import annotations

from pathlib import Path

import click

from datastore_dumper.checks import report
from datastore_dumper.checks.results import Result, Subject, exit_code, of_error, worst
from datastore_dumper.checks.run import run_checks
from datastore_dumper.cli.options import config_option, database_of, load_all, output_console
from datastore_dumper.config.storage import storage_settings
from datastore_dumper.errors import ConfigError
from datastore_dumper.logs import configure_logging
from datastore_dumper.storage.settings import open_storage


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--nagios", is_flag=True, help="Print for Nagios, Icinga and the like, and exit with their codes.")
def check(config_path: Path | None, as_json: bool, nagios: bool) -> int:
    """Try everything that the daemon needs: rights, settings, triggers, clocks, storage. Changes nothing.

    Exits with 0 if nothing failed (there may be warnings), else with the code of the first check that failed; with
    --nagios, 0 is ok, 1 is warning and 2 is failed.
    """
    if as_json and nagios:
        raise click.UsageError("--json and --nagios exclude each other.")
    configure_logging("console", "error")  # what goes wrong is in the results
    machine = as_json or nagios
    console = output_console()
    results: list[Result] = []
    try:
        subject = _subject(config_path)
    except ConfigError as error:
        if not machine:
            raise
        results.append(of_error("config.valid", error))
    else:
        for result in run_checks(subject):
            results.append(result)
            if not machine:
                report.show(console, result)
    if as_json:
        click.echo(report.as_json(results))
    elif nagios:
        click.echo(report.as_nagios(results))
        return report.NAGIOS_CODES[worst(results)]
    else:
        report.show_summary(console, results)
    return exit_code(results)


def _subject(config_path: Path | None) -> Subject:
    loaded = load_all(config_path)
    return Subject(loaded, database_of(loaded.config), open_storage(storage_settings(loaded.config)))
