"""Shows results: as text for people, as JSON for scripts, as one line for Nagios and its kin."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.text import Text

from datastore_dumper import __version__
from datastore_dumper.checks.results import Result, Status, worst
from datastore_dumper.logs import mask_text
from datastore_dumper.words import counted, printable

_STYLES: dict[Status, str] = {"ok": "green", "warning": "yellow", "failed": "bold red"}
_NAME_WIDTH = 26

# Monitoring Plugins Guidelines, "Plugin return codes".
NAGIOS_CODES: dict[Status, int] = {"ok": 0, "warning": 1, "failed": 2}
_NAGIOS_WORDS: dict[Status, str] = {"ok": "OK", "warning": "WARNING", "failed": "CRITICAL"}


def show(console: Console, result: Result) -> None:
    """One result, and below it how to mend it."""
    line = Text(f"{result.status:8}", style=_STYLES[result.status])
    line.append(f"{result.name:{_NAME_WIDTH}} ", style="default not bold")
    line.append(mask_text(_one_line(result.found)), style="default not bold")
    console.print(line, soft_wrap=True)
    if result.mend:
        console.print(Text(f"{'':8}{mask_text(_one_line(result.mend))}", style="dim"), soft_wrap=True)


def show_summary(console: Console, results: Sequence[Result]) -> None:
    counts = _counts(results)
    console.print(
        Text(
            f"{counted(len(results), 'check')}: {counts['ok']} ok, {counted(counts['warning'], 'warning')}, "
            f"{counts['failed']} failed."
        ),
        soft_wrap=True,
    )


def as_json(results: Sequence[Result]) -> str:
    """`status` is the worst of all; the fields of each check are those of `Result`."""
    checks = [{key: value for key, value in asdict(result).items() if key != "exit_code"} for result in results]
    report = {"status": worst(results), "version": __version__, "checks": checks}
    return json.dumps(_masked(report), ensure_ascii=False, indent=2)


def as_nagios(results: Sequence[Result]) -> str:
    """The first line is what a pager shows; then performance data; then what is not ok, a line each."""
    status = worst(results)
    counts = _counts(results)
    amiss = sorted((each for each in results if each.status != "ok"), key=lambda each: each.status != "failed")
    first = f": {amiss[0].name}: {amiss[0].found}" if amiss else f": {counted(len(results), 'check')}"
    performance = f"ok={counts['ok']} warnings={counts['warning']} failed={counts['failed']}"
    lines = [f"DATASTORE DUMPER {_NAGIOS_WORDS[status]}{first}".replace("|", "/") + f" | {performance}"]
    lines += [f"{each.status}: {each.name}: {each.found} - {each.mend}".replace("|", "/") for each in amiss]
    return mask_text("\n".join(map(_one_line, lines)))


def _one_line(text: str) -> str:
    """A table's name and a server's words may have anything in them: line breaks become blanks, and no cursor moves."""
    return printable(" ".join(text.split()))


def _counts(results: Sequence[Result]) -> dict[Status, int]:
    statuses: tuple[Status, ...] = ("ok", "warning", "failed")
    return {status: sum(result.status == status for result in results) for status in statuses}


def _masked(value: object) -> object:
    if isinstance(value, dict):
        return {key: _masked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return mask_text(value) if isinstance(value, str) else value
