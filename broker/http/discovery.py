"""The broker as an issuer: where whoever wants to check its tokens finds its keys.

Source: OpenID Connect Discovery 1.0, section 4; RFC 8414; RFC 7517; WLCG Common JWT Profiles 1.2.
"""

from datetime import timedelta
from typing import Any

from aiohttp import web

from broker.auth.tokens import ALGORITHM
from broker.domain.scopes import Authority
from broker.http.call import Call, json_answer
from broker.http.contract import operation

KEPT_FOR = timedelta(minutes=15)
"""So long others may keep the published keys: less than a new one is published before it signs."""


@operation(answers=dict[str, Any])
async def get_configuration(call: Call) -> web.Response:
    """Send the issuer's description: its name, and where its keys are."""
    return _description(call)


@operation(answers=dict[str, Any])
async def get_metadata(call: Call) -> web.Response:
    """Send the same under the name that RFC 8414 gives it."""
    return _description(call)


@operation(answers=dict[str, Any])
async def get_keys(call: Call) -> web.Response:
    """Send the public keys that verify the broker's tokens, those that will sign later among them."""
    call.services.keys.look_again()
    return _public(call.services.keys.published)


def _description(call: Call) -> web.Response:
    url = call.services.urls.public_url
    return _public(
        {
            "issuer": call.services.tokens.issuer,
            "jwks_uri": f"{url}/.well-known/jwks.json",
            "token_endpoint": f"{url}/v1/login/token",
            "token_endpoint_auth_methods_supported": ["none"],
            "grant_types_supported": [],
            "response_types_supported": ["token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [ALGORITHM],
            "scopes_supported": [authority.value for authority in Authority],
        }
    )


def _public(body: dict[str, Any]) -> web.Response:
    kept = f"public, max-age={int(KEPT_FOR.total_seconds())}"
    return json_answer(body, headers={"Cache-Control": kept})
