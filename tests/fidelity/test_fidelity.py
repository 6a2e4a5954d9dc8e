"""Some tables of a fixed seed, against CKAN 2.12 in both of its ways to write timestamps. `make fidelity` has more."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fidelity import run
from tests.fidelity.recipes import digest, recipes
from tests.support.postgres import PostgresServer

TABLES = 25
SEED = 1


@pytest.mark.ckan
def test_every_file_is_what_ckan_sends(postgres_server: PostgresServer, tmp_path: Path) -> None:
    with run.ckan_platform(postgres_server, "2.12") as platform:
        report = run.compare(platform, tmp_path, "2.12", TABLES, SEED, lambda what, done, total: None)
    assert report.differences == [], "\n".join(run.describe(report))
    assert report.comparisons == TABLES * 8 * 2
    # Most tables are such that CKAN sends them.
    assert len(report.refused) < report.comparisons / 4, "\n".join(run.describe(report))


def test_a_seed_means_the_same_tables_everywhere() -> None:
    assert digest(list(recipes(SEED, TABLES))) == "a861d4e49c38fb33"
    assert list(recipes(SEED, 60))[:TABLES] == list(recipes(SEED, TABLES))
    assert digest(list(recipes(SEED + 1, TABLES))) != digest(list(recipes(SEED, TABLES)))
