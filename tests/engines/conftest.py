"""Every conformance test runs once per engine."""

from __future__ import annotations

import pytest

from duygu.engines import ENGINES, Engine, open_engine


@pytest.fixture(scope="session", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return open_engine(request.param)
