"""What is said to a user who would have more than they may."""

from broker.domain.errors import Rejected
from broker.wire.names import UserName
from broker.wire.problems import ProblemCode


def quota_exceeded(detail: str) -> Rejected:
    return Rejected(ProblemCode.QUOTA_EXCEEDED, detail)


def owed_too_much(user: UserName, most: int) -> Rejected:
    return quota_exceeded(
        f"servers of {user}'s are owed {most} callbacks, and nothing more is begun that would settle with another: "
        "`broker callback list --state waiting` shows why they do not arrive; or put the stream's spec without callback"
    )


def files_full(user: UserName, most_bytes: int) -> Rejected:
    return quota_exceeded(
        f"{user}'s room for files is full: with this one they would have more than {most_bytes} bytes, and nothing of "
        "it was kept; remove files, or ask who runs the broker for more"
    )


def too_many_images(user: UserName, most: int) -> Rejected:
    return quota_exceeded(f"{user} has {most} images, as many as may be: DELETE one of /v1/images first")


def images_full(user: UserName, most_bytes: int) -> Rejected:
    return quota_exceeded(
        f"{user}'s room for images is full: with this one, and those that are arriving, they would have more than "
        f"{most_bytes} bytes, and nothing of it was kept; remove images, or ask who runs the broker for more"
    )
