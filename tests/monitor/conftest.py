"""Where the daemons of these tests are watched."""

from __future__ import annotations

import pytest

from tests.support.watching import Watched


@pytest.fixture
def watched() -> Watched:
    return Watched.somewhere()
