import json

import msgspec

from broker.http import openapi
from broker.http.routes import ROUTES
from tests.support.api import Api


async def test_a_broker_serves_the_document_of_its_own_routes_to_anybody(user: Api) -> None:
    answer = await user.bearing(None).call("GET", "/openapi.json")

    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.json == json.loads(msgspec.json.encode(openapi.document(ROUTES)))
