"""Writes what people read about the settings, from the model: `config.example.yaml` and the reference page.

`python -m datastore_dumper.config.example config.example.yaml docs/reference/configuration.md` writes both anew; tests
fail while they differ from the model.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from pathlib import Path as FilePath

from datastore_dumper.config.fields import Path, SectionInfo, Setting, outline, sections

_WIDTH = 100
_PLAIN = re.compile(r"[a-z][a-z0-9.-]*")  # words of a list that YAML takes for text without quotes
# The section that the example's storage.type asks for: live in the example, though other types do without it.
_EXAMPLE_STORAGE = ("storage", "disk")
_HEADER = """\
# Datastore Dumper: every setting there is. Lines that begin with "#" and a name show the default, or an
# invented value where it says "not set", and do nothing until the "#" is removed. The others must be given.
# Each setting is also an environment variable, which has precedence: storage.s3.bucket is
# DATASTORE_DUMPER_STORAGE__S3__BUCKET. `datastore-dumper config validate` checks this file.
"""
_PAGE = """\
# Configuration

Settings come from, in order of precedence:

1. environment variables `DATASTORE_DUMPER_<SECTION>__<KEY>` (two underscores between the parts of a name); lists are
   separated by commas. A variable that begins with `DATASTORE_DUMPER_` and is no setting, or is empty, is an error;
2. the YAML file ([`config.example.yaml`](../../config.example.yaml) has every setting), named by `--config` or
   `DATASTORE_DUMPER_CONFIG`;
3. CKAN's own ini file, named by `--ckan-ini` or `DATASTORE_DUMPER_CKAN_INI`: `ckan.datastore.write_url` and
   `ckan.datastore.read_url` for the database and the roles, and where [the plugin's settings](plugin.md) say the files are;
4. the defaults below.

Unknown and duplicate keys are errors. An error names the file, line and column or the variable, and ends the program
with [exit code 78](exit-codes.md).

**Secrets** are best kept in files of their own: `dsn_file` and `secret_key_file` name a file that holds the value
alone; a newline at its end does not count. The name is an absolute path, or the bare name of a credential that systemd
passes (`LoadCredential=`, looked for in `$CREDENTIALS_DIRECTORY`). A secret and its file given by the same source are
an error; given by two, the source with precedence decides. No secret is shown in a message or a log.

**Quotes**: YAML takes `2.10` for the number 2.1 and `no` for false. Where text is wanted, such a word must be in
quotes: `compat: "2.10"`. Numbers are plain decimal ones: not `010`, `1:30` or `1_000`.

The tables are generated from the program: `python -m datastore_dumper.config.example config.example.yaml
docs/reference/configuration.md`.
"""


def _yaml(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(item if _PLAIN.fullmatch(item) else json.dumps(item) for item in value)}]"
    # JSON's scalars are YAML's. Always quoting text shows which settings want it.
    return json.dumps(value)


def _comment(text: str, indent: str) -> list[str]:
    start = f"{indent}# "
    return textwrap.wrap(text, _WIDTH, initial_indent=start, subsequent_indent=start, break_on_hyphens=False)


def _example_setting(setting: Setting) -> list[str]:
    indent = "  " * (len(setting.path) - 1)
    text = setting.description
    if setting.kind not in ("boolean", "path", "text"):
        text += f" {setting.expects[:1].upper()}{setting.expects[1:]}."
    if setting.optional:
        text += " Default: not set."
    mark = "" if setting.required and _is_live(setting.path[:-1]) else "#"
    return [*_comment(text, indent), f"{indent}{mark}{setting.path[-1]}: {_yaml(setting.example)}", ""]


def _is_live(section: Path) -> bool:
    return section == _EXAMPLE_STORAGE or sections()[section].required


def example_yaml() -> str:
    """The text of `config.example.yaml`."""
    lines = [_HEADER]
    for entry in outline():
        if isinstance(entry, Setting):
            lines += _example_setting(entry)
        elif entry.path:
            indent = "  " * (len(entry.path) - 1)
            mark = "" if _is_live(entry.path) else "#"
            lines += [*_comment(entry.description, indent), f"{indent}{mark}{entry.path[-1]}:"]
    return "\n".join(lines).rstrip("\n") + "\n"


def _row(setting: Setting) -> str:
    default = "*required*" if setting.required else "*not set*" if setting.optional else f"`{_yaml(setting.default)}`"
    cells = (f"`{setting.name}`", f"`{setting.variable}`", setting.expects, default, setting.description)
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def reference_page() -> str:
    """The text of `docs/reference/configuration.md`."""
    parts = [_PAGE]
    entries = outline()
    # Settings that belong to no section come last, as in the model.
    order = sorted((e for e in entries if isinstance(e, SectionInfo)), key=lambda section: not section.path)
    for section in order:
        title = f"`{'.'.join(section.path)}`" if section.path else "Outside of sections"
        rows = [_row(entry) for entry in entries if isinstance(entry, Setting) and entry.path[:-1] == section.path]
        head = ["| Key | Environment variable | Value | Default | Description |", "|---|---|---|---|---|"]
        about = [section.description, ""] if section.path else []
        parts.append("\n".join([f"## {title}", "", *about, *head, *rows, ""]))
    return "\n".join(parts)


def main(example: str, page: str) -> None:
    """Write both files."""
    FilePath(example).write_text(example_yaml(), encoding="utf-8")
    FilePath(page).write_text(reference_page(), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
