"""The planted problem, and processes that train on it."""

from collections.abc import Iterator

import planted
import pytest
from forker import Forker


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> planted.Case:
    return planted.write(tmp_path_factory.mktemp("case"), *planted.features())


@pytest.fixture(scope="module")
def forker() -> Iterator[Forker]:
    server = Forker()
    yield server
    server.close()
