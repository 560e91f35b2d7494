"""The seed of the run's fault test: a new one each time, told in the run's header, the same one in every worker."""

import os
import random
from typing import Final

import pytest

_VARIABLE: Final = "VMBROKER_FAULT_SEED"


def pytest_configure(config: pytest.Config) -> None:
    # Workers are started later, and inherit it.
    os.environ.setdefault(_VARIABLE, str(random.SystemRandom().randrange(1_000_000)))


def pytest_report_header(config: pytest.Config) -> str:
    return f"fault test: seed {os.environ[_VARIABLE]} (again: {_VARIABLE}={os.environ[_VARIABLE]})"


@pytest.fixture
def fault_seed() -> int:
    return int(os.environ[_VARIABLE])
