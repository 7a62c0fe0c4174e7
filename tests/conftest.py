from __future__ import annotations

import pytest
from toy_set import ToySet, make_toy_set


@pytest.fixture(scope="session")
def toy_set(tmp_path_factory: pytest.TempPathFactory) -> ToySet:
    return make_toy_set(tmp_path_factory.mktemp("toy"))
