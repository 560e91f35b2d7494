import pytest

from broker.domain.paths import BadPath
from broker.domain.scopes import Authority, parse_scopes, scopes_of_launcher, scopes_of_user


@pytest.mark.parametrize(
    ("scope", "path", "permitted"),
    [
        ("queue.read:/alice", ("alice",), True),
        ("queue.read:/alice", ("alice", "render"), True),
        ("queue.read:/alice", ("alice2",), False),
        ("queue.read:/alice", (), False),
        ("queue.read:/alice/render", ("alice", "render"), True),
        ("queue.read:/alice/render", ("alice", "render2"), False),
        ("queue.read:/alice/render", ("alice",), False),
        ("queue.read:/", ("bob", "x"), True),
        ("queue.read", ("bob", "x"), True),
        ("queue.submit:/alice", ("alice",), False),
        ("openid profile queue.read:/alice", ("alice",), True),
        ("", ("alice",), False),
    ],
)
def test_a_scope_covers_its_path_and_all_below_by_whole_segments(
    scope: str, path: tuple[str, ...], permitted: bool
) -> None:
    assert parse_scopes(scope).permit(Authority.READ, path) is permitted


@pytest.mark.parametrize(
    "path", ["/alice/../bob", "/alice//x", "/alice/", "alice", "/a%2Fb", "/a%2fb", "/./a", "/a\\b", "/a\nb"]
)
def test_a_scope_whose_path_could_mean_something_else_is_refused(path: str) -> None:
    with pytest.raises(BadPath):
        parse_scopes(f"queue.read:{path}")


def test_scopes_are_written_as_they_are_read() -> None:
    scopes = scopes_of_user("alice")

    assert parse_scopes(str(scopes)) == scopes
    assert str(scopes_of_launcher(["bob", "alice"])) == "queue.dispatch:/alice queue.dispatch:/bob"
    assert scopes_of_launcher().permit(Authority.DISPATCH, ("anybody",))
