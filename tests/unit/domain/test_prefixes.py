import pytest

from broker.domain.errors import Rejected
from broker.domain.prefixes import check_prefix, is_below
from broker.wire.names import StreamRef, UserName

RENDER = StreamRef(UserName("alice"), "render")


@pytest.mark.parametrize(
    ("template", "prefix", "is_held"),
    [
        ("file:{user}/{job}/{name}", "file:", True),
        ("file:{user}/{job}/{name}", "file:alice/render", True),
        ("file:{user}/renderer/{name}", "file:alice/render", False),
        ("file:{user}/{item}/{name}", "file:alice/render", False),
        ("s3://lab/results/{name}", "s3://lab", True),
        ("s3://lab/results/{name}", "s3://lab/results/", True),
        ("s3://lab/results-{name}", "s3://lab/results", False),
        ("s3://lab2/results/{name}", "s3://lab", False),
        ("https://up.example:443/in/{name}", "https://UP.example/in", True),
        ("https://up.example:444/in/{name}", "https://up.example/in", False),
        ("http://up.example/in/{name}", "https://up.example/in", False),
        ("https://up.example/{name}?to=/in/", "https://up.example/in", False),
        ("https://up.example.evil.example/in/{name}", "https://up.example", False),
        ("davs://up.example/in/x/{name}", "davs://up.example/in", True),
        ("osdf:///ospool/alice/{name}", "osdf:///ospool", True),
    ],
)
def test_a_target_is_below_a_prefix_by_whole_segments(template: str, prefix: str, is_held: bool) -> None:
    check_prefix(prefix)
    assert is_below(template, RENDER, (prefix,)) is is_held


@pytest.mark.parametrize(
    ("endpoint", "prefix", "is_held"),
    [
        (None, "s3://lab/results", True),
        ("https://s3.evil.example", "s3://lab/results", False),
        ("https://S3.example:443/", "https://s3.example/lab/results", True),
        ("https://s3.example", "https://s3.example/other", False),
        (None, "https://s3.example/lab", False),
    ],
)
def test_a_bucket_at_a_server_of_the_users_own_is_where_that_is(
    endpoint: str | None, prefix: str, is_held: bool
) -> None:
    assert is_below("s3://lab/results/{name}", RENDER, (prefix,), endpoint=endpoint) is is_held


@pytest.mark.parametrize(
    "prefix", ["", "s3", "https://h/../x", "https://h/{x}", "https://h:0/", "x" * 2_000, "file:a b"]
)
def test_what_is_no_prefix_is_refused(prefix: str) -> None:
    with pytest.raises(Rejected, match="targets: "):
        check_prefix(prefix)
