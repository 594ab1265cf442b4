"""One client's connection: uvicorn's, with limits that it lacks on what is no body, and on clients that stand still."""

import asyncio
import json
from typing import ClassVar, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from server.errors import openai_error

TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
LINGER_SECONDS: Final = 2.0
"""How long a client may go on sending a head that was refused; a connection closed at once would lose it the answer."""
LAST_SECONDS: Final = 10.0
"""When the server ends: how long a client may take to read the rest of its answer. A request that has not come whole
by then is given up."""
PIECE: Final = 1024
"""Bytes that are parsed in one go. A limit is seen at the end of a piece, so up to two of them later."""


class Connection(HttpToolsProtocol):
    """Speaks HTTP/1.1. The limits are those of a subclass, because uvicorn makes the instances.

    Attributes:
        max_head_bytes: largest request line and headers together; above, the answer is 431 and the connection closed.
            It holds for all that comes in a row and is no body: trailers, say, which are no headers of the request.
        client_seconds: how long a client may take to send a head, or what it still sends after its answer, and how
            long to read on where it has stopped. Then the connection is closed, which aborts its request in the engine.
    """

    max_head_bytes: ClassVar[int]
    client_seconds: ClassVar[float]

    _in_head = False
    _apart = 0  # bytes since the head began or the last of the body came
    _refused = False
    _answered: RequestResponseCycle | None = None  # the request under way; those pipelined behind it wait
    _sending: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, waiting for the first head."""
        super().connection_made(transport)
        self._sending = self.loop.call_later(self.client_seconds, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """End. The request under way learns it; uvicorn tells the last one only, which may still wait for its turn."""
        self._stop_sending_timer()
        self._stop_reading_timer()
        if self._answered is not None:
            self._answered.disconnected = True
            self._answered.message_event.set()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Close when the answer under way, if there is one, has been read; soon in any case."""
        super().shutdown()
        self.loop.call_later(LAST_SECONDS, self.transport.abort)

    def data_received(self, data: bytes) -> None:
        """Take in bytes. A client that gets no answer now has to bring a head to its end within its time."""
        for start in range(0, len(data), PIECE):
            if not self._listens:
                return
            piece = data[start : start + PIECE]
            self._apart += len(piece)
            super().data_received(piece)
            if self._apart > self.max_head_bytes:
                self._refuse()
        if self._sending is None and self._answered is None and self._listens:
            self._sending = self.loop.call_later(self.client_seconds, self.transport.abort)

    @property
    def _listens(self) -> bool:
        """Whether what comes is still ours to take in: a websocket has a protocol of its own."""
        return not (self._refused or self.transport.is_closing() or self.transport.get_protocol() is not self)

    def on_message_begin(self) -> None:
        """Begin a head."""
        super().on_message_begin()
        self._in_head, self._apart = True, 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take in a header; what comes after the head is a trailer, and is dropped."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin the request."""
        self._in_head, self._apart = False, 0
        self._stop_sending_timer()
        super().on_headers_complete()
        if not self.pipeline:
            self._answered = self.cycle

    def on_body(self, body: bytes) -> None:
        """Take in a part of the body."""
        self._apart = 0
        super().on_body(body)

    def on_response_complete(self) -> None:
        """End the answer."""
        self._answered = self.pipeline[-1][0] if self.pipeline else None
        super().on_response_complete()
        self._wait_for_the_end_to_be_read()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection."""
        super().timeout_keep_alive_handler()
        self._wait_for_the_end_to_be_read()

    def pause_writing(self) -> None:
        """Wait for the client to read on."""
        super().pause_writing()
        self._wait_for_reading()

    def resume_writing(self) -> None:
        """Go on, as the client has read."""
        self._stop_reading_timer()
        super().resume_writing()
        self._wait_for_the_end_to_be_read()

    def _refuse(self) -> None:
        """Answer a head that is too large, where nothing else is being answered, and close."""
        if self.transport.is_closing():
            return
        if not self._in_head or self._answered is not None:
            self.transport.abort()
            return
        self._stop_sending_timer()
        message = f"The request line and headers are larger than {self.max_head_bytes} bytes."
        body = json.dumps(openai_error(431, {"error": {"message": message}}, "")).encode()
        headers = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.transport.write(TOO_LARGE + headers + body)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._refused = True
        self._sending = self.loop.call_later(LINGER_SECONDS, self.transport.abort)

    def _stop_sending_timer(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None

    def _wait_for_the_end_to_be_read(self) -> None:
        """A transport that closes first waits for the client to read what it was sent."""
        if self.transport.is_closing() and self.transport.get_write_buffer_size():
            self._wait_for_reading()

    def _wait_for_reading(self) -> None:
        self._stop_reading_timer()
        unread = self.transport.get_write_buffer_size()
        self._reading = self.loop.call_later(self.client_seconds, self._leave_unless_read, unread)

    def _leave_unless_read(self, unread: int) -> None:
        if self.transport.get_write_buffer_size() < unread:
            self._wait_for_reading()
        else:
            self.transport.abort()

    def _stop_reading_timer(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None


def connection_with(max_head_bytes: int, client_seconds: float) -> type[Connection]:
    """The connections of a server with these limits."""
    return type("Connection", (Connection,), {"max_head_bytes": max_head_bytes, "client_seconds": client_seconds})
