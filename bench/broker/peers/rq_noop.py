"""What RQ looks up by name: a job that does nothing."""


def noop(url: str) -> None:
    del url
