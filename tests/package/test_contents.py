"""What is built has all that it needs, and nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

import pytest

from datastore_dumper import __version__
from tests.support.ckan_env import CHECKOUT

NAME = f"ckanext_datastore_dumper-{__version__}"
_GENERATED = {f"{NAME}.dist-info/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt")}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the sdist and, made from it, the wheel."""
    directory = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", directory, CHECKOUT],
        check=True,
        capture_output=True,
        cwd=directory,
    )
    return directory


@pytest.fixture(scope="module")
def wheel(built: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(built / f"{NAME}-py3-none-any.whl")


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    return HeaderParser().parsestr(wheel.read(f"{NAME}.dist-info/METADATA").decode())


def tracked(*roots: str) -> set[str]:
    """The files of the checkout that belong to it."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", *roots],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return {name for name in listing.split("\0") if name and (CHECKOUT / name).exists()}


def test_the_wheel_is_the_packages_the_sql_and_what_goes_beside_them(wheel: zipfile.ZipFile) -> None:
    data = f"{NAME}.data/data/share"
    moved = {
        "listener/": "",
        "plugin/": "",
        "sql/": "datastore_dumper/sql/",
        "deploy/": f"{data}/datastore-dumper/deploy/",
        "config.example.yaml": f"{data}/datastore-dumper/config.example.yaml",
        "docs/man/": f"{data}/man/man1/",
        "LICENSE": f"{NAME}.dist-info/licenses/LICENSE",
    }
    expected = {
        target + name.removeprefix(source) for source, target in moved.items() for name in tracked(source)
    } | _GENERATED
    packed = {info.filename for info in wheel.infolist() if not info.is_dir()}
    assert packed == expected
    kinds = {Path(name).suffix for name in packed}
    assert kinds >= {".py", ".sql", ".html", ".css", ".js", ".yml", ".yaml", ".mo", ".pth", ".1", ".service", ".conf"}


def test_the_sdist_is_the_checkout(built: Path) -> None:
    with tarfile.open(built / f"{NAME}.tar.gz") as archive:
        packed = {member.name.removeprefix(f"{NAME}/") for member in archive if member.isfile()}
    assert packed == tracked() | {"PKG-INFO"}


def test_metadata(metadata: Message) -> None:
    assert metadata["Name"] == "ckanext-datastore-dumper"
    assert metadata["Version"] == __version__
    assert metadata["License-Expression"] == "AGPL-3.0-or-later"
    assert metadata["Requires-Python"] == ">=3.10"
    assert set(metadata.get_all("Provides-Extra", ())) == {"listener", "parquet", "demo", "dev"}
    bare = [each for each in metadata.get_all("Requires-Dist", ()) if "extra ==" not in each]
    assert [re.match(r"[\w-]+", each).group() for each in bare] == ["minio"]  # type: ignore[union-attr]


def test_the_version_is_in_one_place() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", __version__)
    stating = re.compile(rf"""version__?["']?\s*[=:]\s*["']?v?{re.escape(__version__)}""", re.IGNORECASE)
    sources = [*CHECKOUT.glob("*.toml"), *CHECKOUT.glob("listener/**/*.py"), *CHECKOUT.glob("plugin/**/*.py")]
    found = [path.name for path in sources if stating.search(path.read_text(encoding="utf-8"))]
    assert found == ["__init__.py"]
