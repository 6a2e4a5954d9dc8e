"""The tutorial is played, block by block, on the portal that it tells to start."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.portal import portal
from tests.support.ckan_env import CHECKOUT, DEFAULT_VERSION
from tests.support.ckan_site import CkanPlatform
from tests.support.pages import ROOT, blocks
from tests.support.seaweedfs import S3Server

PAGE = ROOT / "docs" / "tutorial" / "first-download.md"


pytestmark = pytest.mark.ckan


def test_the_tutorial_from_top_to_bottom(ckan_platform: CkanPlatform, s3_server: S3Server, tmp_path: Path) -> None:
    if ckan_platform.version != DEFAULT_VERSION:
        pytest.skip(f"the tutorial is about CKAN {DEFAULT_VERSION}")
    # The program of this environment is taken: `make package` installs it elsewhere.
    steps = [
        "\n".join(line for line in block.splitlines() if "portal/venv" not in line).replace(
            "build/portal", str(tmp_path)
        )
        for block in blocks(PAGE, "sh")
    ]
    done: list[str] = []

    def follow(blocks: Sequence[str]) -> str:
        """In a new shell, after what the earlier blocks have exported."""
        kept = "\n".join(line for block in done for line in block.splitlines() if line.startswith(("export ", ". ")))
        done.extend(blocks)
        script = f'export PATH="{Path(sys.executable).parent}:$PATH"\n{kept}\n' + "\n".join(blocks)
        result = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert result.returncode == 0, f"{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
        return result.stdout

    with portal(tmp_path, ckan_platform, s3_server) as running:
        at = next(number for number, block in enumerate(steps) if "plugin.ini" in block) + 1
        before = follow(steps[:at])
        assert "HTTP/1.1 200" in before
        assert "1,Harbour Road,1204" in before
        running.restart()
        first = follow(steps[at : at + 1])
        assert "302" in first.splitlines()[0]
        assert "X-Amz-Signature" in first
        assert "1,Harbour Road,1204\n2,Mill Lane,87\n" in first
        stale = follow(steps[at + 1 : at + 2])
        assert "200" in stale.splitlines()[0]
        assert "location" not in stale.lower()
        assert "3,Park Row,311" in stale
        assert "3,Park Row,311" in follow(steps[at + 2 :])
        assert "302" in follow(['curl -si "$CKAN_URL/datastore/dump/$RESOURCE"']).splitlines()[0]
