from typing import Any

from guest.steps.work import Work


def work(**changes: Any) -> Work:
    fields: dict[str, Any] = {
        "item": "alice/render/17",
        "run": "true",
        "as_user": "root",
        "output_files": ["*"],
        "run_ms": 60_000,
        "output_mib": 1,
        "max_outputs": 3,
    }
    return Work(**(fields | changes))
