"""One row of the route table, and all that follows from it: the scope, the declaration, the problems."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from broker.domain.scopes import Authority
from broker.http.call import Call
from broker.http.contract import NOT_SEEN, NOTHING, Operation, Parameter, operation_of
from broker.http.doors import OWN, Proof
from broker.http.parameters import PATH
from broker.wire.problems import ProblemCode

Handler = Callable[[Call], Awaitable[web.StreamResponse]]

_IN_PATH = re.compile(r"\{(\w+)(?::[^}]*)?\}")
_BY_PROOF: dict[Proof, tuple[ProblemCode, ...]] = {
    Proof.NOTHING: (),
    Proof.TOKEN: (ProblemCode.UNAUTHENTICATED, ProblemCode.ISSUER_UNAVAILABLE),
    Proof.TOKEN_OR_SIGNATURE: (ProblemCode.UNAUTHENTICATED, ProblemCode.ISSUER_UNAVAILABLE, ProblemCode.FORBIDDEN),
    Proof.TICKET: (ProblemCode.UNAUTHENTICATED,),
    Proof.LEASE: (ProblemCode.UNAUTHENTICATED,),
    Proof.CODE: (ProblemCode.UNAUTHENTICATED,),
    Proof.LOGIN: (ProblemCode.UNAUTHENTICATED,),
    Proof.TOKEN_OR_LOGIN: (ProblemCode.UNAUTHENTICATED,),
}
_OF_A_BODY = {
    ProblemCode.TOO_LARGE,
    ProblemCode.TOO_SLOW,
    ProblemCode.TOO_MANY_BODIES,
    ProblemCode.MEDIA_TYPE_REFUSED,
}


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one address. `authority` is asked for over the parts of the address that `over` names."""

    method: str
    path: str
    handler: Handler
    proof: Proof
    summary: str
    authority: Authority | None = None
    over: tuple[str, ...] = ()

    @property
    def scope(self) -> str:
        """The scope that a token needs, as it is written in the reference."""
        if self.authority is None:
            return ""
        if not self.over:
            return f"{self.authority}"
        parts = ["USER" if part == OWN else part.upper() for part in self.over]
        return f"{self.authority}:/{'/'.join(parts)}"

    @property
    def operation(self) -> Operation:
        """What its handler declares.

        Raises:
            Undeclared: it declares nothing.
        """
        return operation_of(self.handler)

    @property
    def address(self) -> str:
        """The path with the names of its parts alone."""
        return _IN_PATH.sub(r"{\1}", self.path)

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Those of the address, then those that the handler declares."""
        return (*(PATH[name] for name in _IN_PATH.findall(self.path)), *self.operation.parameters)

    @property
    def problems(self) -> tuple[ProblemCode, ...]:
        """Every code that it may be answered, in the order of their list."""
        found = {ProblemCode.INTERNAL, *_BY_PROOF[self.proof], *self.operation.problems}
        takes_body = self.operation.takes != NOTHING
        if self.parameters or takes_body:
            found.add(ProblemCode.BAD_REQUEST)
        if takes_body:
            found |= _OF_A_BODY
        if self.authority is not None:
            found.update(NOT_SEEN)
        if self.proof is not Proof.NOTHING:
            found |= {ProblemCode.STORE_UNAVAILABLE, ProblemCode.STORE_DISK_FULL}
        return tuple(code for code in ProblemCode if code in found)
