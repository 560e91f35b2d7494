"""What must not leave with a bundle: whatever in a text could open a door is taken out of it.

Tickets, leases and tokens have shapes of their own. An address is cut at its query, where signatures are, and loses the
name and password before its host. What a program printed in a shape of its own choosing cannot be told from other text.
"""

import re

_LEFT_OUT = "(left-out)"
_SECRETS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\bv[tl]1\.[A-Za-z0-9][A-Za-z0-9._/-]*"), _LEFT_OUT),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]*){1,4}"), _LEFT_OUT),
    (re.compile(r"(?i)\b(bearer|basic) +[A-Za-z0-9._~+/=-]{8,}"), rf"\1 {_LEFT_OUT}"),
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]{1,15}://)[^\s/@\"'<>]*@"), rf"\1{_LEFT_OUT}@"),
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]{1,15}://[^\s?\"'<>]*)\?[^\s\"'<>]+"), rf"\1?{_LEFT_OUT}"),
)


def without_secrets(content: bytes) -> bytes:
    """Return the bytes with what could open a door replaced by `(left-out)`."""
    text = content.decode("latin-1")  # every byte is a character, and comes back as it was
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text.encode("latin-1")


def without_values(params: dict[str, str]) -> dict[str, str]:
    """Return parameters by their names: a program may take a key as one, and an operator needs none of them."""
    return {name: f"(left-out: {len(value)} characters)" for name, value in params.items()}
