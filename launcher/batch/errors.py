"""What a batch system, or the folder of a submission, does not allow. Each text says what to do."""


class BatchError(Exception):
    """Root of the errors of this package; the text is for a person."""


class Refused(BatchError):
    """The order itself is at fault, or the batch system refuses it: asking again does not help."""


class Away(BatchError):
    """The batch system does not answer, or answers that it cannot now: ask again later.

    Whether a submission that ended so was taken in is not known: ask for the jobs before it is repeated.
    """
