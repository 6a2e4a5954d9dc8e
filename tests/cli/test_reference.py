"""The reference page and the man page say what the commands say; completion works in the shells that it is offered for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from datastore_dumper.cli import cli
from datastore_dumper.cli.reference import commands, main, man_page, reference_page

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/reference/commands.md"
MAN = ROOT / "docs/man/datastore-dumper.1"
REGENERATE = "run: python -m datastore_dumper.cli.reference docs/reference/commands.md docs/man/datastore-dumper.1"


def test_committed_files_are_those_of_the_program(tmp_path: Path) -> None:
    main(str(tmp_path / "page"), str(tmp_path / "man"))
    assert (tmp_path / "page").read_text(encoding="utf-8") == PAGE.read_text(encoding="utf-8"), REGENERATE
    assert (tmp_path / "man").read_text(encoding="utf-8") == MAN.read_text(encoding="utf-8"), REGENERATE


def test_every_command_and_option_is_in_both() -> None:
    page, man = reference_page(), man_page().replace("\\-", "-")
    documented = list(commands())
    assert {each.name.partition(" ")[0] for each in documented} == set(cli.commands)
    for each in documented:
        assert re.search(rf"^## {each.name}$", page, flags=re.MULTILINE), each.name
        assert f".SS {each.name}\n" in man
        assert each.help.endswith("."), "every command says in sentences what it does"
        for names, text in each.options:
            assert f"| `{names}` |" in page
            assert f".B {names}\n" in man
            assert text or names in (each.usage.split()[-1], *each.usage.split()), (
                f"{each.name} {names} is not described"
            )


def test_no_line_of_the_man_page_is_taken_for_a_request() -> None:
    requests = {line.split()[0] for line in man_page().splitlines() if line.startswith((".", "'"))}
    assert requests == {".TH", ".SH", ".SS", ".B", ".PP", ".TP"}


def test_groff_has_no_complaint() -> None:
    if shutil.which("groff") is None:
        # Continuous integration installs it (.ci/run).
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("there is no groff: install groff-base")
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", str(MAN)], capture_output=True, text=True, timeout=90, check=True
    )
    assert done.stderr == ""
    assert "datastore-dumper status" in re.sub(r"\x1b\[[0-9;]*m|.\x08", "", done.stdout)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    program = str(Path(sys.executable).with_name("datastore-dumper"))
    variable = "_DATASTORE_DUMPER_COMPLETE"
    assert f"{variable}={shell}_source" in reference_page()
    script = subprocess.run(
        [program],
        env={**os.environ, variable: f"{shell}_source"},
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    assert "datastore-dumper" in script.stdout
    words = {"COMP_WORDS": "datastore-dumper st", "COMP_CWORD": "st" if shell == "fish" else "1"}
    found = subprocess.run(
        [program],
        env={**os.environ, variable: f"{shell}_complete", **words},
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    assert "status" in found.stdout
    assert "verify" not in found.stdout
