"""The broker's fixtures, for launchers that act in a guest's place."""

from tests.integration.http.conftest import grid, launcher, parked, start, user

__all__ = ["grid", "launcher", "parked", "start", "user"]
