from broker.wire.states import FailureCode


class StepFailed(Exception):
    """A step failed in a way that is the item's, with what the researcher will read."""

    def __init__(self, code: FailureCode, sentence: str, *, exit_code: int | None = None) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.exit_code = exit_code
