import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.issuers import OutsideIssuer
from broker.domain.paths import Segments
from broker.domain.scopes import Authority, Scope, Scopes, parse_scopes


def issuer(*prefixes: Segments) -> OutsideIssuer:
    return OutsideIssuer(issuer="https://iam.example", audience="https://broker.example", prefixes=prefixes)


@pytest.mark.parametrize(
    ("claimed", "counts"),
    [
        ("queue.submit:/alice", "queue.submit:/alice"),
        ("queue.submit:/alice/render", "queue.submit:/alice/render"),
        ("queue.submit:/", "queue.submit:/alice queue.submit:/bob"),
        ("queue.submit", "queue.submit:/alice queue.submit:/bob"),
        ("queue.submit:/carol", ""),
        ("queue.submit:/alice2", ""),
        ("queue.submit:/carol/alice", ""),
        ("queue.dispatch", "queue.dispatch:/alice queue.dispatch:/bob"),
        ("secret.use:/ file.read:/bob/x", "file.read:/bob/x secret.use:/alice secret.use:/bob"),
        ("queue.admin", ""),
        ("queue.admin:/alice", ""),
        ("storage.read:/ compute.create", ""),
    ],
)
def test_scopes_are_cut_down_to_the_issuers_paths(claimed: str, counts: str) -> None:
    assert str(issuer(("alice",), ("bob",)).cut(parse_scopes(claimed))) == counts


def test_a_deeper_path_narrows_by_whole_segments() -> None:
    cut = issuer(("alice", "render")).cut(parse_scopes("queue.read:/alice queue.submit:/alice/renders"))
    assert str(cut) == "queue.read:/alice/render"


def test_an_issuer_that_speaks_for_everybody_may_name_an_operator() -> None:
    scopes = parse_scopes("queue.admin queue.read:/carol")
    assert issuer(()).cut(scopes) == scopes


@pytest.mark.parametrize(
    ("prefixes", "user", "may"),
    [
        ([()], "carol", True),
        ([("alice",), ("bob",)], "bob", True),
        ([("alice",)], "alice2", False),
        ([("alice",)], "carol", False),
        ([("alice", "render")], "alice", False),
        ([], "alice", False),
    ],
)
def test_an_issuer_names_users_whose_all_lies_within_its_paths(prefixes: list[Segments], user: str, may: bool) -> None:
    assert issuer(*prefixes).speaks_for(user) is may


paths = st.lists(st.sampled_from("ab"), max_size=3).map(tuple)


@given(
    prefixes=st.lists(paths, min_size=1, max_size=3),
    scopes=st.frozensets(st.builds(Scope, st.sampled_from(Authority), paths), max_size=4),
    authority=st.sampled_from(Authority),
    path=paths,
)
def test_what_is_left_permits_what_the_token_said_within_the_paths_and_nothing_else(
    prefixes: list[Segments], scopes: frozenset[Scope], authority: Authority, path: Segments
) -> None:
    is_within = any(path[: len(prefix)] == prefix for prefix in prefixes)
    may_speak = is_within if authority is not Authority.ADMIN else () in prefixes

    cut = issuer(*prefixes).cut(Scopes(scopes))

    assert cut.permit(authority, path) == (Scopes(scopes).permit(authority, path) and may_speak)


def test_an_issuer_is_the_same_after_it_was_told_to_a_process() -> None:
    told = msgspec.json.encode(issuer((), ("alice",)))
    assert msgspec.json.decode(told, type=OutsideIssuer) == issuer((), ("alice",))
