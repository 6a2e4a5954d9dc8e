"""What is installed has all that the plugin needs: templates, assets, translations, settings."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.support.ckan_env import CHECKOUT
from tests.support.ckan_site import CkanPlatform

pytestmark = pytest.mark.ckan


def test_every_file_of_the_plugin_is_in_the_wheel(ckan_platform: CkanPlatform, tmp_path: Path) -> None:
    environment = ckan_platform.environment
    subprocess.run(
        [
            *(environment.python, "-I", "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"),
            *("--no-build-isolation", "--wheel-dir", tmp_path, CHECKOUT),
        ],
        check=True,
        env=environment.environ(),
    )
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    source = CHECKOUT / "plugin"
    files = {
        str(path.relative_to(source))
        for path in (source / "ckanext").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {Path(name).suffix for name in files} >= {".py", ".html", ".css", ".js", ".yml", ".yaml", ".mo"}
    assert files - packed == set()
