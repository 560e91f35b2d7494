"""The broker's fixtures, for a doctor that asks one."""

from tests.integration.http.conftest import grid, launcher, parked, start, user

__all__ = ["grid", "launcher", "parked", "start", "user"]
