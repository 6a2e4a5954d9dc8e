"""Every command that README and docs show is one that there is, with options that there are."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator

import click
import pytest

from datastore_dumper.cli import cli
from tests.support.ckan_env import CHECKOUT, ckan_environment
from tests.support.pages import Command, commands, pages

# Stands for any command, or for what somebody else's program does.
_PLACEHOLDERS = {"COMMAND", "..."}


def shown(program: str) -> list[Command]:
    found = [command for page in pages() for command in commands(page, program)]
    return [command for command in found if not _PLACEHOLDERS & set(command.words)]


def objection(group: click.Group, words: tuple[str, ...]) -> str | None:
    """What the program would say to them, as far as it has not to look at the values."""
    context = click.Context(group)
    try:
        _, command, rest = group.resolve_command(context, list(words))
        if command is None:
            return "no such command"
        if isinstance(command, click.Group):
            return objection(command, tuple(rest)) if rest and not rest[0].startswith("-") else None
        _, left, _ = command.make_parser(click.Context(command)).parse_args(list(rest))
    except click.UsageError as error:
        return error.format_message()
    return f"unexpected {left}" if left else None


def test_commands_of_the_daemon() -> None:
    found = shown("datastore-dumper")
    assert len(found) > 30
    wrong = [f"{each}: {said}" for each in found if (said := _said(each.words[1:])) is not None]
    assert wrong == []


def _said(words: tuple[str, ...]) -> str | None:
    return None if words[0] in ("--version", "--help") else objection(cli, words)


def test_wrong_commands_are_found() -> None:
    assert "No such command 'dumps'" in str(objection(cli, ("dumps",)))
    assert "--fulll" in str(objection(cli, ("dump", "--fulll", "x")))
    assert objection(cli, ("config", "validate", "x")) == "unexpected ['x']"
    assert objection(cli, ("status", "--watch")) is None


def test_commands_of_make() -> None:
    makefile = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
    variables = set(re.findall(r"^([A-Z_]+) \?=", makefile, re.MULTILINE))
    found = shown("make")
    assert len(found) > 20
    wrong = []
    for each in found:
        for word in each.words[1:]:
            name, assigned, _ = word.partition("=")
            if name not in (variables if assigned else targets):
                wrong.append(f"{each}: {name}")
    assert wrong == []


_INSIDE = """
import json, sys
import ckan.cli.cli as cli
import click
from ckanext.datastore.cli import datastore
from ckanext.datastore_dumper.cli import datastore_dumper

group = click.Group(commands={**cli.ckan.commands, "datastore": datastore, "datastore-dumper": datastore_dumper})
answers = []
for words in json.load(sys.stdin):
    command, rest = group, words
    try:
        while isinstance(command, click.Group) and rest:
            _, command, rest = command.resolve_command(click.Context(command), rest)
        left = command.make_parser(click.Context(command)).parse_args(list(rest))[1]
        answers.append(f"unexpected {left}" if left else None)
    except click.UsageError as error:
        answers.append(error.format_message())
json.dump(answers, sys.stdout)
"""


@pytest.mark.ckan
def test_commands_of_ckan(ckan_version: str) -> None:
    found = [(each, list(_without_ini(each.words[1:]))) for each in shown("ckan")]
    assert len(found) > 5
    environment = ckan_environment(ckan_version)
    answered = subprocess.run(
        [environment.python, "-I", "-c", _INSIDE],
        input=json.dumps([words for _, words in found] + [["datastore-dumper", "no-such"]]),
        env=environment.environ(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert answered.returncode == 0, answered.stderr[-2000:]
    *said, control = json.loads(answered.stdout.splitlines()[-1])
    assert control == "No such command 'no-such'."
    assert [f"{each}: {text}" for (each, _), text in zip(found, said, strict=True) if text] == []


def _without_ini(words: tuple[str, ...]) -> Iterator[str]:
    rest = iter(words)
    for word in rest:
        if word in ("-c", "--config"):
            next(rest)
        else:
            yield word
