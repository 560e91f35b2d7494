"""One request on its way through a handler: who asks, what is asked, and the parts that answer."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import msgspec
from aiohttp import web

from broker.auth.keys import BrokerKeys
from broker.auth.tokens import Principal, Tokens
from broker.auth.urls import SIGNED, SignedUrls
from broker.client.outgoing import OutgoingClient
from broker.domain import limits
from broker.domain.deadlines import Deadlines
from broker.domain.errors import Rejected
from broker.domain.paths import BadPath, FilePath, FolderPath, parse_file_path, parse_folder_path
from broker.domain.scopes import Authority
from broker.files.images import Images
from broker.files.listing import Listings
from broker.files.tails import Tails
from broker.files.uploads import Uploads
from broker.files.user_files import UserFiles
from broker.http import bodies
from broker.http.bells import Bells
from broker.http.bodies import Bodies, Body
from broker.http.bucket_urls import BucketUrls
from broker.http.callback_tests import CallbackTests
from broker.http.contract import JSON, Operation, Undeclared
from broker.http.revocations import Revocations
from broker.http.roll_call import RollCall
from broker.http.waiting import WaitingRoom
from broker.outside.tokens import OutsideTokens
from broker.store import Store
from broker.wire.dispatches import Room
from broker.wire.launchers import MAX_USERS
from broker.wire.names import (
    Digest,
    ItemRef,
    MachineRef,
    OwnedName,
    StreamRef,
    UserName,
    check_digest,
    check_name,
    parse_item,
)
from broker.wire.problems import ProblemCode
from broker.wire.states import Exchange

T = TypeVar("T")

MAX_EXCHANGES = len(Exchange)


@dataclass(frozen=True, slots=True)
class Services:
    """What handlers act with."""

    store: Store
    tokens: Tokens
    outside: OutsideTokens
    revocations: Revocations
    keys: BrokerKeys
    urls: SignedUrls
    outgoing: OutgoingClient
    callback_tests: CallbackTests
    files: UserFiles
    listings: Listings
    images: Images
    uploads: Uploads
    tails: Tails
    bells: Bells
    bodies: Bodies
    bucket: BucketUrls | None
    waiting: WaitingRoom
    roll_call: RollCall
    deadlines: Deadlines


SERVICES = web.AppKey("services", Services)


@dataclass(frozen=True, slots=True)
class Call:
    """A request, after its proof was checked. `principal` is there on every route that a token opens.

    `operation` is what the handler declared: nothing else is read of a query or a JSON body.
    """

    request: web.Request
    services: Services
    principal: Principal | None
    operation: Operation

    @property
    def who(self) -> Principal:
        assert self.principal is not None, "the route's proof is a token"
        return self.principal

    @property
    def stream(self) -> StreamRef:
        return StreamRef(self._name("user"), check_name(self.request.match_info["job"], "stream"))

    @property
    def machine(self) -> MachineRef:
        return MachineRef(self._name("user"), check_name(self.request.match_info["name"], "machine"))

    @property
    def secret(self) -> OwnedName:
        return OwnedName(self._name("user"), check_name(self.request.match_info["name"], "secret"))

    @property
    def item(self) -> ItemRef:
        return parse_item(f"{self.stream}/{self.request.match_info['number']}", None)

    @property
    def digest(self) -> Digest:
        return check_digest(self.request.match_info["digest"])

    @property
    def file(self) -> FilePath:
        return file_of(self.request)

    @property
    def folder(self) -> FolderPath:
        return folder_of(self.request)

    def _name(self, part: str) -> UserName:
        return UserName(check_name(self.request.match_info[part], part))

    def query(self, *known: str) -> Mapping[str, str]:
        """Return the query; a parameter that the route does not know is refused, as a field would be."""
        if known != self.operation.query:
            raise Undeclared(f"read of the query: {known}; declared: {self.operation.query}")
        for name in self.request.query:
            if name not in known and (self.principal is not None or name not in SIGNED):
                knows = f"it knows {', '.join(known)}" if known else "it takes none"
                raise Rejected(ProblemCode.BAD_REQUEST, f"this address knows no query parameter {name!r}: {knows}")
        return self.request.query

    async def body(self, kind: type[T], most: str = "request_bytes") -> T:
        """Read a JSON body; `most` names the limit of its size.

        Raises:
            Rejected: `bad_request`: it is no JSON, or not of this kind; else as `whole_body`.
            Unavailable: as `whole_body`.
        """
        if kind != self.operation.body:
            raise Undeclared(f"read of the body: {kind}; declared: {self.operation.body}")
        return decode(await self.whole_body(most), kind)

    async def whole_body(self, most: str = "request_bytes") -> bytes:
        """Read a body to its end; `most` names the limit of its size.

        Raises:
            Rejected, Unavailable: as `bodies.whole`.
        """
        return await bodies.whole(self.request, self.services.bodies, self._whose, limit(most))

    async def optional_body(self, kind: type[T]) -> T:
        """Read a JSON body, which may be left out where there is nothing to say.

        Raises:
            Rejected: as `body`.
        """
        if self.request.can_read_body:
            return await self.body(kind)
        return kind()

    @contextmanager
    def large_body(self) -> Iterator[Body]:
        """Have a body of any size for the block, one of so many of its user, or of its signed address.

        Raises:
            Unavailable: `too_many_bodies`.
        """
        places, body = self.services.bodies, Body(self.request)
        with places.place_of_address(self.request.path) if self.principal is None else places.place(self._whose):
            try:
                yield body
            finally:
                body.end()

    @property
    def _whose(self) -> str:
        return "" if self.principal is None else self.principal.subject


def file_of(request: web.Request) -> FilePath:
    """Return the file that the address of a request names.

    Raises:
        BadPath: it names none; an encoded slash is none.
    """
    _check_codes(request)
    return parse_file_path(f"{request.match_info['user']}/{request.match_info['path']}")


def folder_of(request: web.Request) -> FolderPath:
    """Return the folder that the address of a request names.

    Raises:
        BadPath: as `file_of`.
    """
    _check_codes(request)
    below = request.match_info.get("folder")
    return parse_folder_path(f"{request.match_info['user']}/{'' if below is None else f'{below}/'}")


def _check_codes(request: web.Request) -> None:
    if any(code in request.rel_url.raw_path.lower() for code in ("%2f", "%5c", "%00")):
        raise BadPath("an encoded slash in a file's address is refused")


def decode(body: bytes, kind: type[T]) -> T:
    """Decode JSON.

    Raises:
        Rejected: `bad_request`, with the place of the fault.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Rejected(ProblemCode.BAD_REQUEST, f"the body is not what this address takes: {error}") from error
    except RecursionError as error:
        raise Rejected(ProblemCode.BAD_REQUEST, "the body is nested too deeply for what this address takes") from error


def json_answer(body: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Render an answer; no cache may keep it."""
    return web.Response(
        body=msgspec.json.encode(body),
        status=status,
        content_type=JSON,
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def allow(principal: Principal, authority: Authority, path: tuple[str, ...]) -> None:
    """Check a token's right, before anything is looked up: the answer says nothing of what exists.

    Raises:
        Rejected: `forbidden` when the token holds no such right at all, or may see but not do; else `not_found`.
    """
    if principal.may(authority, *path):
        return
    wanted = f"{authority}:/{'/'.join(path)}"
    may_see = principal.may(Authority.READ, *path) or principal.may(Authority.FILE_READ, *path)
    if may_see or not principal.scopes.name(authority):
        raise Rejected(ProblemCode.FORBIDDEN, f"the token does not allow this: it would need the scope {wanted}")
    raise Rejected(
        ProblemCode.NOT_FOUND, f"there is no such thing, or {principal.subject} may not see it (scope {wanted})"
    )


def speaker(call: Call, name: str) -> str:
    """Return the launcher that speaks: never one of another token, whatever name it gives itself.

    Raises:
        Rejected: `forbidden`: the token is bound to another launcher.
    """
    bound = call.who.launcher
    if bound is not None and name != bound:
        raise Rejected(ProblemCode.FORBIDDEN, f"the token is the launcher {bound}'s: no other may use it")
    return f"{call.who.party}/{check_name(name, 'launcher')}"


def check_room(room: Room, what: str) -> None:
    """Check the sizes of a room that a launcher tells.

    Raises:
        Rejected: `bad_request`.
    """
    sizes = {"vcpus": room.vcpus, "memory_mib": room.memory_mib, "disk_mib": room.disk_mib}
    for name, size in sizes.items():
        if not 0 < size < 1 << 40:
            raise Rejected(ProblemCode.BAD_REQUEST, f"{what}.{name} is {size}: offer at least 1")
    if len(room.exchanges) > MAX_EXCHANGES:
        raise Rejected(ProblemCode.BAD_REQUEST, f"{what}.exchanges names more than there are: name each once")
    if room.time_left_ms is not None and abs(room.time_left_ms) >= 1 << 50:
        raise Rejected(
            ProblemCode.BAD_REQUEST, f"{what}.time_left_ms is {room.time_left_ms}: leave it out when no end is known"
        )


def check_users(users: tuple[str, ...]) -> None:
    """Check the names of those whom a site serves.

    Raises:
        Rejected: `bad_request`: they are too many, or one is no user's name.
    """
    if len(users) > MAX_USERS:
        raise Rejected(ProblemCode.BAD_REQUEST, f"users names more than {MAX_USERS}: leave it out to serve everybody")
    for user in users:
        check_name(user, "user")


def bounded(text: str, length: int) -> str:
    """Cut a text that a program sent to what is kept of it."""
    return text[:length]


def bounded_facts(facts: Mapping[str, str]) -> dict[str, str]:
    """Cut the facts of a vm to what is kept of them."""
    few: Iterable[tuple[str, str]] = list(facts.items())[:32]
    return {name[:64]: value[:500] for name, value in few}


def rfc3339_of(epoch_s: int) -> str:
    """Return a time as it is written in answers."""
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def limit(name: str) -> int:
    return limits.default(name)
