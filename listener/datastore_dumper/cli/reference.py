"""Writes what people read about the commands, from the commands: the reference page and the man page.

`python -m datastore_dumper.cli.reference docs/reference/commands.md docs/man/datastore-dumper.1` writes both anew; tests
fail while they differ from the program.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from datastore_dumper import __version__
from datastore_dumper.checks.about import ABOUT
from datastore_dumper.cli import cli

PROGRAM = "datastore-dumper"
_PAGE = """\
# Commands

`datastore-dumper COMMAND --help` says the same. Every command ends with one of the [exit codes](exit-codes.md); messages
go to standard error, answers to standard output. Where a script might read them there is `--json`. Colours and progress
bars appear on a terminal only, and no colours if `NO_COLOR` is set. Every command that needs settings takes them
[from a file or the environment](configuration.md).

With files on disk, `run`, `dump`, `verify --repair` and `gc` belong to the daemon's user (`runuser -u datastore-dumper --`): in
directories that another user made the daemon may neither write nor delete.

**Completion** of commands and options in the shell: put the line of yours into its start-up file.

```console
$ eval "$(_DATASTORE_DUMPER_COMPLETE=bash_source datastore-dumper)"   # ~/.bashrc, bash 4.4 or later
$ eval "$(_DATASTORE_DUMPER_COMPLETE=zsh_source datastore-dumper)"    # ~/.zshrc
$ _DATASTORE_DUMPER_COMPLETE=fish_source datastore-dumper | source    # ~/.config/fish/completions/datastore-dumper.fish
```

**The man page** is installed to `share/man/man1` of the virtualenv: `man -M /opt/datastore-dumper/share/man datastore-dumper`.

This page is generated from the program: `python -m datastore_dumper.cli.reference docs/reference/commands.md
docs/man/datastore-dumper.1`.
"""
_CHECKS = """\
### What it checks

Names are the same in text, `--json` and `--nagios`. A check that cannot be made because of another that failed is left out.

| Name | What is looked at |
|---|---|
"""
_SIGNALS = (
    (
        "SIGTERM, SIGINT",
        "Stop: running exports may finish within shutdown_timeout_seconds; a second signal breaks them off.",
    ),
    (
        "SIGHUP",
        "Read the configuration again. What can be taken over is; the log says what needs a restart, or why it is wrong.",
    ),
)


@dataclass(frozen=True)
class Documented:
    """A command as it is documented."""

    name: str
    """`config show`."""
    usage: str
    help: str
    options: tuple[tuple[str, str], ...]


def commands(group: click.Group = cli, words: tuple[str, ...] = ()) -> Iterator[Documented]:
    """All of them, in the order of --help."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))
            continue
        context = click.Context(command, info_name=" ".join((PROGRAM, *words, name)))
        parameters = [each for each in command.params if isinstance(each, click.Option)]
        records = [option.get_help_record(context) for option in parameters]
        options = tuple(record for record in records if record is not None)
        usage = " ".join(command.collect_usage_pieces(context))
        yield Documented(" ".join((*words, name)), usage, _paragraphs(command.help or ""), options)


def _paragraphs(text: str) -> str:
    """Each in one line."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text.strip()))


def reference_page() -> str:
    """The text of `docs/reference/commands.md`."""
    parts = [_PAGE]
    for command in commands():
        rows = "\n".join(f"| `{names}` | {_cell(text)} |" for names, text in command.options)
        parts.append(
            f"## {command.name}\n\n`{PROGRAM} {command.name} {command.usage}`\n\n{command.help}\n\n"
            f"| Option | |\n|---|---|\n{rows}\n"
        )
        if command.name == "run":
            signals = "\n".join(f"| {name} | {_cell(text)} |" for name, text in _SIGNALS)
            parts.append(f"| Signal | |\n|---|---|\n{signals}\n")
        if command.name == "check":
            parts.append(_CHECKS + "\n".join(f"| `{name}` | {_cell(text)} |" for name, text in ABOUT.items()) + "\n")
    return "\n".join(parts)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "&#124;")


def man_page() -> str:
    """The text of `docs/man/datastore-dumper.1`, in man(7)."""
    lines = [
        f'.TH DATASTORE\\-DUMPER 1 "" "Datastore Dumper {__version__}" "User Commands"',
        ".SH NAME",
        f"{_roff(PROGRAM)} \\- {_roff('ready-made DataStore dumps for CKAN')}",
        ".SH SYNOPSIS",
        f".B {_roff(PROGRAM)}",
        "[\\-\\-version] [\\-\\-help] COMMAND [ARGUMENTS]",
        ".SH DESCRIPTION",
        _roff(_paragraphs(cli.help or "")),
        ".SH COMMANDS",
    ]
    for command in commands():
        lines += [f".SS {_roff(command.name)}", f".B {_roff(f'{PROGRAM} {command.name}')}", _roff(command.usage)]
        for paragraph in command.help.split("\n\n"):
            lines += [".PP", _roff(paragraph)]
        for names, text in command.options:
            lines += [".TP", f".B {_roff(names)}", _roff(" ".join(text.split()))]
    lines += [".SH SIGNALS"]
    for name, text in _SIGNALS:
        lines += [".TP", f".B {_roff(name)}", _roff(text)]
    lines += [
        ".SH EXIT STATUS",
        _roff(
            "0 done; 1 failed; 2 wrong usage; 69 a server cannot be reached; 77 a server refuses; 78 wrong configuration."
        ),
        ".SH ENVIRONMENT",
        ".TP",
        f".B {_roff('DATASTORE_DUMPER_<SECTION>__<KEY>')}",
        _roff("Any setting: DATASTORE_DUMPER_STORAGE__S3__BUCKET is storage.s3.bucket. Has precedence over the file."),
        ".TP",
        ".B NO_COLOR",
        "No colours, on a terminal either.",
        ".SH SEE ALSO",
        _roff(
            "systemd.exec(5) for LoadCredential=, from which *_file settings take secrets; psql(1), for install --print."
        ),
    ]
    return "\n".join(lines) + "\n"


def _roff(text: str) -> str:
    """Plain text in man(7): no line may begin with a dot or a quote, and dashes are to be copied as they are."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", escaped, flags=re.MULTILINE)


def main(page: str, man: str) -> None:
    """Write both files."""
    Path(page).write_text(reference_page(), encoding="utf-8")
    Path(man).write_text(man_page(), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
