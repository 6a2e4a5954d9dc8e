"""Brings the plugin's catalogues of translations up to date with its sentences, with Babel and CKAN's reader of templates.

    python -m tests.support.translations          (make translations)

writes `ckanext-datastore_dumper.pot`, puts new sentences into each `.po`, and compiles those to `.mo`, which CKAN reads.
A new language: make `<language>/LC_MESSAGES` in the directory `i18n`, and run it.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.support.ckan_env import CHECKOUT, CkanEnvironment, ckan_environment

DOMAIN = "ckanext-datastore_dumper"
PACKAGE = CHECKOUT / "plugin" / "ckanext" / "datastore_dumper"
I18N = PACKAGE / "i18n"
# By its place: not every release of CKAN registers its reader of templates with Babel.
_MAPPING = """\
[extractors]
ckan = ckan.lib.extract:extract_ckan
[python: **.py]
encoding = utf-8
[ckan: templates/**.html]
encoding = utf-8
"""
_EXTRACT = (
    *("extract", "--no-location", "--sort-output", "--omit-header", "--keyword=ungettext:1,2", "--mapping=/dev/stdin"),
    *(f"--project={DOMAIN}", "--width=130"),
)
# What Babel writes into a catalogue beside sentences, and nothing reads.
_NOISE = re.compile(
    r'^(# .*|#|"(Project-Id-Version|Report-Msgid-Bugs-To|POT-Creation-Date|PO-Revision-Date|Last-Translator|Language-Team|'
    r"Generated-By):.*)\n",
    re.MULTILINE,
)


def extract(environment: CkanEnvironment) -> str:
    """The template of all catalogues: the sentences as they stand in code and templates now."""
    return _pybabel(environment, *_EXTRACT, "--output=/dev/stdout", ".", stdin=_MAPPING)


def languages() -> list[str]:
    return sorted(path.name for path in I18N.iterdir() if path.is_dir())


def catalogue(language: str) -> Path:
    return I18N / language / "LC_MESSAGES" / f"{DOMAIN}.po"


def update(environment: CkanEnvironment) -> None:
    template = I18N / f"{DOMAIN}.pot"
    template.write_text(extract(environment), encoding="utf-8")
    for language in languages():
        po = catalogue(language)
        subcommand = ("update", "--no-fuzzy-matching", "--ignore-obsolete") if po.exists() else ("init",)
        options = (f"--input-file={template}", f"--output-file={po}", f"--locale={language}", "--width=130")
        _pybabel(environment, *subcommand, *options)
        po.write_text(_NOISE.sub("", po.read_text(encoding="utf-8")), encoding="utf-8")
        compile_to(environment, language, po.with_suffix(".mo"))


def compile_to(environment: CkanEnvironment, language: str, target: Path) -> None:
    _pybabel(
        environment, "compile", f"--input-file={catalogue(language)}", f"--output-file={target}", f"--locale={language}"
    )


def _pybabel(environment: CkanEnvironment, *arguments: str, stdin: str = "") -> str:
    result = subprocess.run(
        [environment.directory / "bin" / "pybabel", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        env=environment.environ(),
        cwd=PACKAGE,
        check=False,
    )
    if result.returncode != 0:
        raise RuntimeError(f"pybabel {arguments[0]} failed:\n{result.stderr}")
    return result.stdout


if __name__ == "__main__":
    update(ckan_environment())
