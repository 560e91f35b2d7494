"""What the proxy answers instead of passing a request on."""


class Refused(Exception):
    """The guest gets this HTTP status and this sentence.

    Attributes:
        status: 403 for what it may not do, other 4xx for what it should not send, 5xx for what did not work.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
