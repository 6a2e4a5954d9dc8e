"""The page on installing is followed, block by block, as far as that needs no root and no systemd."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from psycopg import conninfo

from tests.support.catalog import describe
from tests.support.datastore import READ_ROLE, WRITE_ROLE, create_table
from tests.support.pages import ROOT, blocks
from tests.support.postgres import Connection, ScratchDatabase

PAGE = ROOT / "docs" / "how-to" / "install-on-a-portal.md"
RESOURCE = "2f1b6d0e-8c0a-4a53-9a51-000000000001"


def test_the_page_from_top_to_bottom(database: ScratchDatabase, psql: str, tmp_path: Path) -> None:
    with database.connect(WRITE_ROLE) as writer:
        create_table(writer, RESOURCE, {"station": "text"})
        writer.execute(f"INSERT INTO \"{RESOURCE}\" (station) VALUES ('north'), ('south')".encode())
    with database.connect() as admin:
        before = _of_this_database(admin)
    names, *steps = blocks(PAGE, "sh")
    superuser = conninfo.conninfo_to_dict(database.dsn)
    environ = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{Path(psql).parent}:{os.environ['PATH']}",
        # What psql of the DBA connects by, as by a service file or ~/.pgpass.
        **{
            f"PG{name.upper()}": str(superuser[name])
            for name in ("host", "port", "user", "password")
            if name in superuser
        },
        "DATASTORE": database.name,
        "DATABASE_HOST": str(superuser["host"]),
        "WRITE_ROLE": WRITE_ROLE,
        "READ_ROLE": READ_ROLE,
        "DAEMON_ROLE": f"portal_{database.name}",
        "ETC": str(tmp_path / "etc"),
        "FILES": str(tmp_path / "files"),
    }
    assert {name.partition("=")[0] for name in names.replace("export", "").split()} < set(environ)

    def follow(step: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", step],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{step}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    *forward, back = steps
    said = follow("\n".join(forward))  # in one shell: what is exported holds on
    assert "1 fresh" in said, said
    assert {path.read_bytes() for path in (tmp_path / "files").rglob("*.csv") if path.read_bytes()[:1] == b"_"} == {
        b"_id,station\r\n1,north\n2,south\n"
    }
    follow(back)
    with database.connect() as admin:
        assert _of_this_database(admin) == before


def _of_this_database(admin: Connection) -> dict[str, list[str]]:
    """Roles are the cluster's: the owner of the functions may be there from another test, and go with this one."""
    return {
        subject: [each for each in answers if "datastore_dumper_owner" not in each]
        for subject, answers in describe(admin).items()
    }
