"""Who may ask: every route but the open ones needs an API key."""

from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from server.exchange import current_exchange
from server.keys import ApiKey, Keyring
from server.refusal import refusal
from server.route import route_path
from server.web import PATHS

OPEN: Final = PATHS | {"/health", "/ready", "/version", "/metrics"}
"""What probes, Prometheus and the empty web page need; none of it shows what anybody asked or was answered."""
KEY: Final = "stepgrpo.key"
"""Where the scope holds the :class:`~server.keys.ApiKey` of the request."""
POLICY_VIOLATION: Final = 1008


class Authentication:
    """Middleware that asks for a key: ``Authorization: Bearer KEY``, or ``X-API-Key: KEY``."""

    def __init__(self, app: ASGIApp, keyring: Keyring) -> None:
        self._app = app
        self._keyring = keyring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let requests with a key and requests for open paths pass."""
        if scope["type"] == "lifespan" or route_path(scope) in OPEN:
            await self._app(scope, receive, send)
            return
        presented = _presented(Headers(scope=scope))
        key = self._keyring.find(presented) if presented else None
        if key is not None:
            _introduce(scope, key)
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})
        else:
            message = (
                "Incorrect API key provided." if presented else "No API key: send it as Authorization: Bearer KEY."
            )
            await refusal(401, message, headers={"WWW-Authenticate": "Bearer"})(scope, receive, send)


def _presented(headers: Headers) -> str:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    presented = key.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
    return presented.encode("latin-1").decode("utf-8", "surrogateescape")


def _introduce(scope: Scope, key: ApiKey) -> None:
    scope[KEY] = key
    exchange = current_exchange()
    if exchange is not None:
        exchange.client = key.name
