"""Secrets taken out of what a vm said, before it is kept.

What is looked for: each secret as a whole, each line of it that is long enough to tell something, and both in base64
and quoted for an address. Who wants to give a secret away finds other ways to write it: this is for programs that
print too much, not against those that mean to.
"""

import base64
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

MASK = b"[secret]"
LEAST_BYTES = 8
"""Shorter lines are no secrets by themselves: masking them would hide what is none."""
_BASE64_LINES = (64, 76)
"""Widths at which programs wrap base64: PEM's, and MIME's."""


def mask(content: bytes, secrets: Iterable[bytes]) -> bytes:
    """Return the content with every form of the secrets replaced; the start of a cut tail counts as well."""
    if len(content) < LEAST_BYTES:
        return content
    # Most forms are not there: one look tells, and a search through all of the content for each would take seconds.
    begins = {content[at : at + LEAST_BYTES] for at in range(len(content) - LEAST_BYTES + 1)}
    first = content[:LEAST_BYTES]
    forms = {form for secret in secrets for form in forms_of(secret) if form[:LEAST_BYTES] in begins or first in form}
    for form in sorted(forms, key=len, reverse=True):
        content = _without_end_of(form, content.replace(form, MASK))
    return content


def forms_of(secret: bytes) -> Iterator[bytes]:
    """Yield what a secret may look like where it was printed, each at least `LEAST_BYTES` long."""
    whole = secret.strip()
    lines = [line.strip() for line in secret.splitlines()]
    told = [line for line in lines if not line.startswith((b"-----BEGIN", b"-----END"))]
    for text in (secret, whole, *told):
        if len(text) >= LEAST_BYTES:
            yield from _written(text)


def _written(text: bytes) -> Iterator[bytes]:
    yield text
    yield quote(text, safe="").encode()
    yield quote_plus(text).encode()
    for encoded in (base64.b64encode(text), base64.urlsafe_b64encode(text)):
        bare = encoded.rstrip(b"=")
        yield encoded
        yield bare
        for width in _BASE64_LINES:
            pieces = (bare[at : at + width] for at in range(0, len(bare), width))
            yield from (piece for piece in pieces if len(piece) >= LEAST_BYTES)


def _without_end_of(form: bytes, content: bytes) -> bytes:
    """Mask what the content begins with when it is the rest of a form that was cut."""
    begin, at = content[:LEAST_BYTES], 0
    while (at := form.find(begin, at + 1)) >= 0:
        rest = form[at:]
        if content.startswith(rest):
            return MASK + content[len(rest) :]
    return content
