"""Orders and requests for tests."""

from pathlib import Path

from launcher.batch.job import Request
from launcher.batch.order import Order

BROKER = "https://broker.example.org"
TAG = "vmb-0123abcd"


def order(**changes: object) -> Order:
    values: dict[str, object] = {"broker": BROKER, "launcher": "/opt/vmbroker/bin/launcher", **changes}
    return Order(**values)  # type: ignore[arg-type] # a test names fields of an Order


def request(slots: int = 1, images: tuple[str, ...] = (), **changes: object) -> Request:
    return Request(order=order(**changes), tag=TAG, slots=slots, key="00ff00ff00ff00ff", shape="abc", images=images)


def made_bundle(path: Path) -> Path:
    """Return a file with a bundle's name and nothing of one in it."""
    path.write_bytes(b"")
    return path
