"""What a batch system, or the folder of a submission, does not allow. Each text says what to do."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from launcher.batch.job import Job


class BatchError(Exception):
    """Root of the errors of this package; the text is for a person.

    Attributes:
        submitted: ids of jobs that were brought in before it, where a submission takes several steps.
    """

    def __init__(self, sentence: str, *, submitted: Sequence[str] = ()) -> None:
        if submitted:
            sentence = f"after {len(submitted)} jobs ({submitted[0]} to {submitted[-1]}), no more: {sentence}"
        super().__init__(sentence)
        self.submitted = tuple(submitted)


class Refused(BatchError):
    """The order itself is at fault, or the batch system refuses it: asking again does not help."""


class Away(BatchError):
    """The batch system does not answer, or answers that it cannot now: ask again later.

    Whether a submission that ended so was taken in is not known: ask for the jobs before it is repeated.

    Attributes:
        known: jobs, as far as they are known without it.
    """

    def __init__(self, sentence: str, *, submitted: Sequence[str] = (), known: "Sequence[Job]" = ()) -> None:
        super().__init__(sentence, submitted=submitted)
        self.known = tuple(known)
