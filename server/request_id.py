"""One id per request, the same in the request, the response's header and ``id``, the log and the trace."""

import re
import secrets
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.exchange import Exchange, exchanging
from server.outlet import OUTLET, Outlet

HEADER: Final = "x-request-id"
NAME: Final = HEADER.encode()
ACCEPTED: Final = re.compile(r"[\w.:-]{1,128}", re.ASCII)
"""What a client may choose; anything else is replaced."""


class RequestId:
    """Outermost middleware: takes the client's id or makes one, and opens the request's exchange under it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Put the id where vLLM and the client find it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        sent = scope["headers"]
        chosen = [value for name, value in sent if name == NAME]
        first = chosen[0].decode("latin-1") if chosen else ""
        request_id = first if ACCEPTED.fullmatch(first) else secrets.token_hex(16)
        headers = [header for header in sent if header[0] != NAME]
        headers.append((NAME, request_id.encode()))

        def add_id(head: Message) -> None:
            MutableHeaders(scope=head)[HEADER] = request_id

        outlet = Outlet.at(send).watch(add_id)
        with exchanging(Exchange(request_id)):
            await self._app({**scope, "headers": headers, OUTLET: outlet}, receive, outlet)
