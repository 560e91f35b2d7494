"""What stops a benchmark: something did not happen that every measurement needs."""


class BenchFailed(Exception):
    """The text says what did not happen, and what was seen instead."""
