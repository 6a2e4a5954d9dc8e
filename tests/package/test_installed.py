"""Wheel and sdist, installed as operators do and used away from the checkout: `make package` names them with --artefacts."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import venv
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from datastore_dumper import __version__
from tests.support.ckan_env import CHECKOUT, ckan_environment
from tests.support.ckan_site import CkanPlatform, CkanSite
from tests.support.datastore import DUMPER_ROLE, READ_ROLE, WRITE_ROLE, create_table
from tests.support.postgres import PostgresServer, ScratchDatabase

DISTRIBUTION = "ckanext-datastore-dumper"


@dataclass(frozen=True)
class Environment:
    """A virtualenv, and a directory to be in that is not the checkout."""

    directory: Path

    def run(self, *command: str | Path, status: int = 0, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a program of it, and expect that exit code."""
        program, *arguments = command
        done = subprocess.run(
            [self.directory / "bin" / program, *arguments],
            cwd=self.directory,
            env={"PATH": os.defpath, "HOME": str(self.directory), "LANG": "C.UTF-8", **environ},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == status, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done

    def pip(self, *arguments: str | Path) -> None:
        """What pip reaches its registry by is this process's own."""
        done = subprocess.run(
            [
                *(self.directory / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "--no-input"),
                *arguments,
            ],
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]

    def files(self) -> set[str]:
        """What the distribution has put there, relative to site-packages, but for pip's own notes."""
        listing = self.run(
            "python",
            "-I",
            "-c",
            "import importlib.metadata as m, json; "
            f"print(json.dumps([str(each) for each in m.distribution({DISTRIBUTION!r}).files]))",
        ).stdout
        notes = re.compile(r"__pycache__|\.dist-info/(RECORD|INSTALLER|REQUESTED|direct_url\.json)$")
        return {name for name in json.loads(listing) if not notes.search(name)}


@pytest.fixture(scope="session")
def artefacts(request: pytest.FixtureRequest) -> Path:
    directory = request.config.getoption("--artefacts")
    if directory is None:
        pytest.skip("wheel and sdist are installed by `make package`")
    return Path(directory).absolute()


@pytest.fixture(scope="session")
def wheel(artefacts: Path) -> Path:
    (found,) = artefacts.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The versions of the locks as pip's constraints: without hashes, which pip then wants of the wheel, too."""
    path = tmp_path_factory.mktemp("locked") / "constraints.txt"
    pins: dict[str, str] = {}
    for name in ("demo", "package"):
        text = (CHECKOUT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
        pins.update((line.split("==")[0], line) for line in re.findall(r"^(\S+==[^\\\n]*?) *\\$", text, re.MULTILINE))
    path.write_text("\n".join(pins.values()) + "\n", encoding="utf-8")
    return path


def _environment(directory: Path) -> Environment:
    venv.create(directory, with_pip=True, symlinks=True)
    return Environment(directory)


@pytest.fixture(scope="session")
def listener(wheel: Path, locked: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """What an operator has: the wheel with what the daemon needs."""
    environment = _environment(tmp_path_factory.mktemp("listener") / "venv")
    environment.pip("install", "--constraint", locked, f"{wheel}[listener]")
    return environment


def test_the_wheel_alone_has_what_links_need_and_says_what_the_daemon_needs(
    wheel: Path, locked: Path, tmp_path: Path
) -> None:
    environment = _environment(tmp_path / "venv")
    environment.pip("install", "--constraint", locked, wheel)
    environment.pip("check")
    said = environment.run("datastore-dumper", "--version", status=78).stderr
    assert "pip install 'ckanext-datastore-dumper[listener]'" in said
    environment.run("python", "-I", "-c", "import datastore_dumper.storage.s3, datastore_dumper.storage.disk")
    environment.run("python", "-I", "-m", "pip", "uninstall", "--yes", DISTRIBUTION)
    left = [path for path in environment.directory.rglob("*") if re.search("datastore.dumper", path.name)]
    assert left == []


def test_the_sdist_installs_the_same_files(
    artefacts: Path, listener: Environment, locked: Path, tmp_path: Path
) -> None:
    (sdist,) = artefacts.glob("*.tar.gz")
    environment = _environment(tmp_path / "venv")
    environment.pip("install", "--constraint", locked, "hatchling")
    environment.pip("install", "--no-deps", "--no-build-isolation", sdist)
    assert environment.files() == listener.files()


def test_program_man_page_completion_and_what_goes_to_etc(listener: Environment) -> None:
    assert listener.run("datastore-dumper", "--version").stdout == f"datastore-dumper, version {__version__}\n"
    share = listener.directory / "share"
    assert f"Datastore Dumper {__version__}" in (share / "man/man1/datastore-dumper.1").read_text(encoding="utf-8")
    assert (share / "datastore-dumper/deploy/datastore-dumper.service").is_file()
    example = share / "datastore-dumper/config.example.yaml"
    assert isinstance(yaml.safe_load(example.read_text(encoding="utf-8")), dict)
    completed = listener.run(
        "datastore-dumper",
        _DATASTORE_DUMPER_COMPLETE="bash_complete",
        COMP_WORDS="datastore-dumper ver",
        COMP_CWORD="1",
    ).stdout
    assert completed == "plain,verify\n"


def _write_config(path: Path, database: ScratchDatabase, files: Path, compat: str) -> Path:
    files.mkdir()
    settings = {
        "database": {"dsn": database.dsn_for(DUMPER_ROLE)},
        "roles": {"daemon": DUMPER_ROLE, "ckan_write": WRITE_ROLE, "ckan_read": READ_ROLE},
        "ckan": {"compat": compat},
        "storage": {"type": "disk", "disk": {"directory": str(files)}},
    }
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def test_install_dump_verify_uninstall(listener: Environment, database: ScratchDatabase, tmp_path: Path) -> None:
    resource_id = "7b2f4c0e-5d1a-4c3b-9e8f-000000000001"
    with database.connect(WRITE_ROLE) as writer:
        create_table(writer, resource_id, {"station": "text", "value": "numeric"})
        writer.execute(f'INSERT INTO "{resource_id}" (station, value) VALUES (\'Süd, "alt"\', 1.50)'.encode())
    config = ("--config", _write_config(tmp_path / "config.yaml", database, tmp_path / "files", "2.12"))
    listener.run("datastore-dumper", "install", *config, DATASTORE_DUMPER_INSTALL_DSN=database.dsn)
    dumped = json.loads(listener.run("datastore-dumper", "dump", *config, "--json", resource_id).stdout)
    assert resource_id in json.dumps(dumped)
    text = '_id,station,value\r\n1,"Süd, ""alt""",1.50\n'  # as CKAN ends lines
    written = {path.read_bytes() for path in (tmp_path / "files").rglob("*.csv")}
    assert written == {text.encode(), text.encode("utf-8-sig")}
    listener.run("datastore-dumper", "verify", *config)
    listener.run("datastore-dumper", "uninstall", *config, DATASTORE_DUMPER_INSTALL_DSN=database.dsn)


@pytest.fixture(scope="module")
def portal(
    wheel: Path, ckan_version: str, postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CkanSite]:
    """A CKAN with the wheel in a copy of the virtualenv that other tests have with the checkout."""
    original = ckan_environment(ckan_version)
    copied = replace(original, directory=tmp_path_factory.mktemp("ckan") / "venv")
    shutil.copytree(original.directory, copied.directory, symlinks=True)
    environment = Environment(copied.directory)
    environment.pip("uninstall", "--yes", DISTRIBUTION)
    environment.pip("install", "--no-deps", wheel)
    with CkanPlatform.start(copied, postgres_server) as platform, platform.site(["datastore"]) as site:
        yield site


@pytest.mark.ckan
def test_a_ckan_hands_out_what_the_daemon_made(portal: CkanSite, listener: Environment, tmp_path: Path) -> None:
    environment = Environment(portal.platform.environment.directory)
    where = environment.run(
        "python", "-I", "-c", "import ckanext.datastore_dumper as ours; print(ours.__file__)"
    ).stdout
    assert Path(where).is_relative_to(environment.directory)
    package = portal.action("package_create", name="data")
    resource_id = portal.action(
        "datastore_create",
        resource={"package_id": package["id"], "name": "Air"},
        fields=[{"id": "station", "type": "text"}],
        records=[{"station": "Süd"}],
    )["resource_id"]
    by_ckan = portal.get(f"/datastore/dump/{resource_id}")
    assert by_ckan.status == 200
    assert "ETag" not in by_ckan.headers
    database = ScratchDatabase(portal.platform.postgres, portal.databases.datastore)
    config = (
        "--config",
        _write_config(tmp_path / "config.yaml", database, tmp_path / "files", portal.platform.version),
    )
    listener.run("datastore-dumper", "install", *config, DATASTORE_DUMPER_INSTALL_DSN=database.dsn)
    listener.run("datastore-dumper", "run", "--once", *config)
    ours = "ckanext.datastore_dumper"
    portal.restart(
        ["datastore_dumper", "datastore"],
        {f"{ours}.storage": "disk", f"{ours}.disk.directory": str(tmp_path / "files")},
    )
    ready = portal.get(f"/datastore/dump/{resource_id}")
    assert ready.status == 200
    assert "ETag" in ready.headers
    assert ready.data == by_ckan.data
    # Templates, assets and translations.
    admin = portal.get("/de/ckan-admin/datastore-dumps", token=portal.platform.tokens["admin"])
    assert "DataStore-Dumps" in admin.data.decode()
    styles = re.findall(r'href="([^"]*datastore[-_]dumper[^"]*\.css)', admin.data.decode())
    assert [portal.get(path).status for path in styles] == [200]
    # Commands. That the daemon does not run is all that is amiss.
    said = environment.run(
        *("python", "-I", "-c", "from ckan.cli.cli import ckan; ckan()"),
        *("-c", portal.directory / "ckan.ini", "datastore-dumper", "check"),
        status=1,
        **portal.platform.environment.environ(),
    ).stderr
    amiss = [line for line in said.splitlines() if " INFO [" not in line]
    assert amiss == ["no daemon is connected to the DataStore database (start `datastore-dumper run`)"]
