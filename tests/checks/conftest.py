"""What tests of `check` have in common: a DataStore with one table, as it must be, and the results by their names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from datastore_dumper.checks.results import Result, Subject
from datastore_dumper.checks.run import run_checks
from datastore_dumper.cli.options import database_of
from datastore_dumper.config import load
from datastore_dumper.config.storage import storage_settings
from datastore_dumper.install import install
from datastore_dumper.storage.settings import open_storage
from tests.support.daemon import Dumper
from tests.support.datastore import create_table
from tests.support.installation import ROLES, handle

Results = Callable[..., dict[str, Result]]


@pytest.fixture
def installed(dumper: Dumper) -> Dumper:
    install(handle(dumper.database), ROLES)
    with dumper.database.connect("ckan_write") as writer:
        create_table(writer, "t", {"a": "text"})
    return dumper


@pytest.fixture
def results(dumper: Dumper) -> Results:
    """All results for the configuration with these sections, each name once."""

    def run(**sections: dict[str, Any]) -> dict[str, Result]:
        path = dumper.write_config(**sections)
        path.chmod(0o600)
        loaded = load(path, {})
        subject = Subject(loaded, database_of(loaded.config), open_storage(storage_settings(loaded.config)))
        found = list(run_checks(subject))
        assert len({result.name for result in found}) == len(found), found
        for result in found:
            assert (result.status == "ok") == (not result.mend), result
            assert (result.status == "failed") == bool(result.exit_code), result
        return {result.name: result for result in found}

    return run
