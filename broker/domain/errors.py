"""What the broker refuses or cannot do: one root, three kinds, each with the problem code it becomes on the wire."""

from broker.wire.problems import ProblemCode


class BrokerError(Exception):
    """Root of the broker's own errors. `detail` is a sentence for a person that says what to do."""

    def __init__(self, code: ProblemCode, detail: str, *, refusals: list[dict[str, str]] | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.refusals = refusals or []
        self.progress: dict[str, int] = {}
        """How far a request came before this: members of the problem that it becomes."""


class Rejected(BrokerError):
    """The request is wrong: mend it."""


class Conflict(BrokerError):
    """The state moved on: the request came too late or somebody else won."""


class Unavailable(BrokerError):
    """Not now: try again after `retry_after_s`."""

    def __init__(self, code: ProblemCode, detail: str, *, retry_after_s: int = 2) -> None:
        super().__init__(code, detail)
        self.retry_after_s = retry_after_s
