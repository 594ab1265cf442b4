"""One client's connection: uvicorn's, with limits that it lacks on large or slow headers and on answers left unread."""

import asyncio
import json
from typing import ClassVar, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from server.errors import openai_error

TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
LINGER_SECONDS: Final = 2.0
"""How long a client may go on sending a head that was refused; a connection closed at once would lose it the answer."""


class Connection(HttpToolsProtocol):
    """Speaks HTTP/1.1. The limits are those of a subclass, because uvicorn makes the instances.

    Attributes:
        max_head_bytes: largest request line and headers together; above, the answer is 431 and the connection closed.
        client_seconds: how long a client may take to send them, or to read on where it has stopped; then the
            connection is closed, which aborts its request in the engine.
    """

    max_head_bytes: ClassVar[int]
    client_seconds: ClassVar[float]

    _head = 0  # bytes of the present head that are parsed
    _unparsed = 0  # bytes that came without ending the present head
    _in_head = False
    _in_message = False
    _begun = 0  # messages that began in the present bytes
    _refused = False
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, waiting for the first head."""
        super().connection_made(transport)
        self._close_later()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._stop_timer()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Wait for a head."""
        super().on_message_begin()
        self._in_head, self._head, self._unparsed = True, 0, 0
        self._in_message = True
        self._begun += 1
        self._close_later()

    def on_url(self, url: bytes) -> None:
        """Take in a part of the request line."""
        super().on_url(url)
        self._head += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take in a header."""
        super().on_header(name, value)
        self._head += len(name) + len(value)

    def on_headers_complete(self) -> None:
        """Begin the request, unless its head is too large.

        Raises:
            HttpParserError: it is.
        """
        self._in_head = False
        self._stop_timer()
        if self._head > self.max_head_bytes:
            raise httptools.HttpParserError("the head is too large")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End the request."""
        super().on_message_complete()
        self._in_message = False

    def data_received(self, data: bytes) -> None:
        """Take in bytes, and give up on a head that has become too large without coming to its end."""
        if self._refused:
            return
        in_head, between, self._begun = self._in_head, not self._in_message, 0
        super().data_received(data)
        of_one_head = self._in_head and (in_head or between) and self._begun == (0 if in_head else 1)
        if of_one_head and not self.transport.is_closing():
            self._unparsed += len(data)
            if self._unparsed > self.max_head_bytes:
                self.send_400_response("")

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request, or has too large a head, and close."""
        if max(self._head, self._unparsed) <= self.max_head_bytes:
            super().send_400_response(msg)
            return
        self._stop_timer()
        message = f"The request line and headers are larger than {self.max_head_bytes} bytes."
        body = json.dumps(openai_error(431, {"error": {"message": message}}, "")).encode()
        headers = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.transport.write(TOO_LARGE + headers + body)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._refused = True
        self._timer = self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def pause_writing(self) -> None:
        """Wait for the client to read on."""
        super().pause_writing()
        self._close_later()

    def resume_writing(self) -> None:
        """Go on, as the client has read."""
        self._stop_timer()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection; also one whose client has not read the end of its answer, some time later."""
        super().timeout_keep_alive_handler()
        if self.transport.get_write_buffer_size():
            self._close_later()

    def _close_later(self) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(self.client_seconds, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def connection_with(max_head_bytes: int, client_seconds: float) -> type[Connection]:
    """The connections of a server with these limits."""
    return type("Connection", (Connection,), {"max_head_bytes": max_head_bytes, "client_seconds": client_seconds})
