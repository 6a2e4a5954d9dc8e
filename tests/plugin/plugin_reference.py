"""Makes docs/reference/plugin.md from the plugin's config_declaration.yaml: python -m tests.plugin.plugin_reference"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DECLARATION = ROOT / "plugin/ckanext/datastore_dumper/config_declaration.yaml"
PAGE = ROOT / "docs/reference/plugin.md"

_HEAD = """# Settings of the plugin

For `ckan.ini`. The plugin must stand before `datastore` in `ckan.plugins`, and before any other that answers
`/datastore/dump/`: CKAN does not start otherwise. Where the files are is told as in the daemon's own configuration, with the
same values; a storage that is set up wrong never stops the site: CKAN's own dumps answer, and the log says why.

Made from `plugin/ckanext/datastore_dumper/config_declaration.yaml` by `python -m tests.plugin.plugin_reference`.
"""


def render() -> str:
    """The page."""
    declared = yaml.safe_load(DECLARATION.read_text(encoding="utf-8"))
    options = [option for group in declared["groups"] for option in group["options"]]
    return _HEAD + "".join(_entry(option) for option in options)


def _entry(option: dict[str, Any]) -> str:
    lines = [f"\n## `{option['key']}`\n", " ".join(option["description"].replace("``", "`").split()) + "\n"]
    if "default" in option:
        lines.append(f"Default: `{_shown(option['default'])}`" + ("\n" if "example" not in option else ""))
    if "example" in option:
        lines.append(f"Example: `{_shown(option['example'])}`\n")
    return "\n".join(lines)


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value) or "(empty)"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
    sys.exit(0)
