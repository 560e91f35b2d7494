"""What an operation takes and answers, declared beside its handler; the API's document is made of these declarations.

`Call.body` and `Call.query` read nothing but what is declared: what the document says of them cannot differ from what
the handler does. A broker with a route that declares nothing does not start.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from broker.wire.problems import ProblemCode

JSON = "application/json"
NDJSON = "application/x-ndjson"
OCTETS = "application/octet-stream"

F = TypeVar("F", bound=Callable[..., Any])


class Undeclared(TypeError):
    """A handler does what its declaration does not say, or has none: a bug."""


class Form(StrEnum):
    """How a body is written."""

    JSON = "JSON"
    LINES = "a JSON text a line"
    EVENTS = "Server-Sent Events"
    BYTES = "bytes"
    PAGE = "a page for people"


@dataclass(frozen=True, slots=True)
class Content:
    """A body of one media type; `kinds` are the types of its JSON, or of that in each line or event."""

    media_type: str
    form: Form
    kinds: tuple[Any, ...] = ()


def lines_of(*kinds: Any) -> Content:
    """Return newline-delimited JSON, each line of one of these types."""
    return Content(NDJSON, Form.LINES, kinds)


def server_sent(*kinds: Any) -> Content:
    """Return events as a browser's EventSource reads them, the data of each of one of these types."""
    return Content("text/event-stream", Form.EVENTS, kinds)


def octets(media_type: str = OCTETS) -> Content:
    """Return bytes that are not looked into."""
    return Content(media_type, Form.BYTES)


BYTES = octets()
PAGE = Content("text/html", Form.PAGE)
NOTHING: tuple[Content, ...] = ()
PARTS = {200: (BYTES,), 206: (BYTES,), 304: NOTHING, 412: NOTHING}
"""Answers with a file: whole, in part, or, as the conditions of RFC 9110 ask, not."""
NOT_SEEN = (ProblemCode.FORBIDDEN, ProblemCode.NOT_FOUND)
"""What may not be seen is answered as what is not there, but where the token allows some of it."""


class Place(StrEnum):
    PATH = "path"
    QUERY = "query"
    HEADER = "header"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A part of the address, of the query or of the headers; `kind` is the type of its value."""

    place: Place
    name: str
    kind: Any
    text: str
    is_required: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """`answers` are those of success, by status; `problems` those beyond what its proof and its body bring along."""

    takes: tuple[Content, ...]
    answers: Mapping[int, tuple[Content, ...]]
    problems: tuple[ProblemCode, ...]
    parameters: tuple[Parameter, ...]
    sends: tuple[Parameter, ...]
    body_is_optional: bool = False
    query: tuple[str, ...] = field(init=False)
    """The names of the query's parameters."""
    body: Any = field(init=False)
    """The type of the JSON body, or None."""

    def __post_init__(self) -> None:
        names = tuple(each.name for each in self.parameters if each.place is Place.QUERY)
        object.__setattr__(self, "query", names)
        body = next((each.kinds[0] for each in self.takes if each.form is Form.JSON), None)
        object.__setattr__(self, "body", body)


_OPERATIONS: dict[Callable[..., Any], Operation] = {}


def operation(
    *,
    takes: Any = (),
    answers: Any,
    problems: tuple[ProblemCode, ...] = (),
    parameters: tuple[Parameter, ...] = (),
    sends: tuple[Parameter, ...] = (),
    body_is_optional: bool = False,
) -> Callable[[F], F]:
    """Declare what the handler below takes and answers.

    Args:
        takes: a type (of JSON), a `Content`, or a tuple of them where the sender may choose.
        answers: the same, of status 200; or those by status.
        problems: what it refuses beyond what every operation of its proof and body may.
        parameters: of the query and of the headers; those of the path are the route's.
        sends: headers of the answers of success.
        body_is_optional: a request without a body is one with every default.
    """
    by_status = answers if isinstance(answers, Mapping) else {200: answers}
    declared = Operation(
        _contents(takes),
        {status: _contents(content) for status, content in by_status.items()},
        problems,
        parameters,
        sends,
        body_is_optional,
    )

    def declare(handler: F) -> F:
        _OPERATIONS[handler] = declared
        return handler

    return declare


def operation_of(handler: Callable[..., Any]) -> Operation:
    """Return the declaration of a handler.

    Raises:
        Undeclared: it has none.
    """
    try:
        return _OPERATIONS[handler]
    except KeyError:
        name = f"{handler.__module__}.{handler.__qualname__}"
        raise Undeclared(f"{name} answers a route and declares nothing: put @operation(answers=…) above it") from None


def _contents(given: Any) -> tuple[Content, ...]:
    many = given if isinstance(given, tuple) else (given,)
    return tuple(each if isinstance(each, Content) else Content(JSON, Form.JSON, (each,)) for each in many)
