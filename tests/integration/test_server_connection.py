"""A client's connection on a real uvicorn: large or slow heads, trailers, and answers that are left unread."""

import asyncio
import contextlib
import json
import socket

import pytest
import uvicorn
import websockets

from server.connection import connection_with

pytestmark = pytest.mark.integration

MEGABYTE = b"x" * 2**20


class App:
    """Answers ``/`` with the size of the body, ``/refused`` without reading it, ``/large`` and ``/endless``.

    On websockets it repeats what it hears.
    """

    def __init__(self, large=0):
        self.large = large
        self.left = asyncio.Event()
        self.headers = []

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            return
        if scope["type"] == "websocket":
            await self._echo(receive, send)
            return
        if scope["path"] in ("/refused", "/large"):
            body = b"" if scope["path"] == "/refused" else b"x" * self.large
            length = b"%d" % len(body)
            await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", length)]})
            await send({"type": "http.response.body", "body": body})
            return
        if scope["path"] == "/endless":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            gone = asyncio.create_task(self._departure(receive))
            while not gone.done():
                await send({"type": "http.response.body", "body": MEGABYTE, "more_body": True})
                await asyncio.sleep(0)
            self.left.set()
            return
        size = 0
        while (message := await receive()).get("more_body"):
            size += len(message["body"])
        size += len(message.get("body", b""))
        self.headers.append([name for name, _ in scope["headers"]])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"8")]})
        await send({"type": "http.response.body", "body": b"%8d" % size})

    async def _echo(self, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})

    async def _departure(self, receive):
        while (await receive())["type"] != "http.disconnect":
            pass


class Connect:
    """Connects to a server."""

    def __init__(self, server, running):
        self._server = server
        self._running = running
        self._listening = server.servers[0].sockets[0]
        self.open = server.server_state.connections

    @property
    def url(self):
        """Where websockets are."""
        host, port = self._listening.getsockname()
        return f"ws://{host}:{port}/"

    async def __call__(self, window=None):
        """A new connection; with ``window``, so many bytes or a little more can be under way to it."""
        own = socket.socket()
        own.setblocking(False)
        if window is not None:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
            self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, window)
        await asyncio.get_running_loop().sock_connect(own, self._listening.getsockname())
        return await asyncio.open_connection(sock=own)

    async def end(self):
        """Have the server end, and wait until it has."""
        self._server.should_exit = True
        await asyncio.wait_for(asyncio.shield(self._running), 10)


@contextlib.asynccontextmanager
async def served(app=None, max_head_bytes=3000, client_seconds=30.0):
    """What connects to a server."""
    protocol = connection_with(max_head_bytes, client_seconds)
    config = uvicorn.Config(app or App(), host="127.0.0.1", port=0, http=protocol, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext
    running = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    try:
        yield Connect(server, running)
    finally:
        server.should_exit = True
        server.force_exit = True
        await running


async def answer_of(reader):
    """Status and body of an answer with a length."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(head.split("content-length: ")[1].split("\r\n")[0])
    return int(head.split()[1]), await reader.readexactly(length)


def request(header=0, body=b"", path=b"/"):
    return b"POST %s HTTP/1.1\r\nlong: %s\r\ncontent-length: %d\r\n\r\n%s" % (path, b"x" * header, len(body), body)


async def left_unread(connect):
    """A connection whose client reads the head of an endless answer, and no more; it is open as long as it is held."""
    reader, writer = await connect()
    writer.write(request(path=b"/endless"))
    await reader.readuntil(b"\r\n\r\n")
    reader._transport.pause_reading()
    return reader, writer


async def test_requests_within_the_limit_pass_whatever_their_body_and_share_the_connection():
    async with served() as connect:
        reader, writer = await connect()
        for body in (b"", b"y" * 5000, MEGABYTE):
            writer.write(request(header=2900, body=body))
            assert await answer_of(reader) == (200, b"%8d" % len(body))


@pytest.mark.parametrize("pieces", [1, 50])
@pytest.mark.parametrize("where", ["header", "path"])
async def test_a_head_that_is_too_large_is_a_431_in_openais_form(pieces, where):
    head = request(header=6000) if where == "header" else request(path=b"/" + b"x" * 6000)
    async with served() as connect:
        reader, writer = await connect()
        answer = asyncio.create_task(answer_of(reader))
        size = -(-len(head) // pieces)
        for start in range(0, len(head), size):
            if not answer.done():
                writer.write(head[start : start + size])
                await asyncio.sleep(0.002)
        status, body = await answer
        assert status == 431
        assert json.loads(body)["error"] == {
            "message": "The request line and headers are larger than 3000 bytes.",
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        }


@pytest.mark.parametrize("line", [b"x" * 100, b"x: " + b"y" * 97, b"z: " + b"y" * 100 + b"\r\n"])
async def test_a_head_without_an_end_is_given_up(line):
    async with served() as connect:
        reader, writer = await connect()
        writer.write(b"GET / HTTP/1.1\r\n")
        answer = asyncio.create_task(answer_of(reader))
        async with asyncio.timeout(5):
            while not answer.done():
                writer.write(line)
                await asyncio.sleep(0.001)
        assert (await answer)[0] in (400, 431)


async def test_a_head_without_an_end_is_given_up_though_it_came_at_once():
    async with served() as connect:
        reader, writer = await connect()
        writer.write(request(body=b"y" * 3000) + b"GET / HTTP/1.1\r\nx: y\r\n")
        assert (await answer_of(reader))[0] == 200
        writer.write(b"\r\n")
        assert (await answer_of(reader))[0] == 200
        writer.write(b"GET / HTTP/1.1\r\nx: " + b"y" * 6000)
        assert (await answer_of(reader))[0] == 431
        writer.close()


async def test_a_client_gets_to_read_why_its_head_was_refused_while_it_still_sends():
    async with served() as connect:
        reader, writer = await connect()
        writer.write(b"GET / HTTP/1.1\r\nx: ")
        for _ in range(20):
            writer.write(b"y" * 10_000)
            await asyncio.sleep(0.005)
        assert (await answer_of(reader))[0] == 431
        assert await reader.read() == b""


async def test_what_is_no_http_is_a_400():
    async with served() as connect:
        reader, writer = await connect()
        writer.write(b"\x16\x03\x01 hello\r\n\r\n")
        assert (await answer_of(reader))[0] == 400


@pytest.mark.parametrize("first", [b"", b"GET / HTT", b"GET / HTTP/1.1\r\nx: "])
async def test_a_head_that_does_not_come_is_not_waited_for(first):
    async with served(client_seconds=0.2) as connect:
        reader, writer = await connect()
        writer.write(first)
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""


async def test_a_request_may_take_longer_than_its_head():
    async with served(client_seconds=0.2) as connect:
        reader, writer = await connect()
        whole = request(body=b"12345")
        writer.write(whole[:-2])
        await asyncio.sleep(0.5)
        writer.write(whole[-2:])
        assert await answer_of(reader) == (200, b"%8d" % 5)


async def test_a_websocket_may_stand_still():
    async with served(client_seconds=0.2) as connect, websockets.connect(connect.url) as websocket:
        await asyncio.sleep(0.5)
        await websocket.send("still there")
        assert await websocket.recv() == "still there"


async def test_a_client_that_stops_reading_is_left():
    app = App()
    async with served(app, client_seconds=0.3) as connect:
        _reader, _writer = await left_unread(connect)
        await asyncio.wait_for(app.left.wait(), 5)


async def test_a_client_that_reads_slowly_is_served_on():
    app = App()
    async with served(app, client_seconds=0.5) as connect:
        reader, writer = await connect()
        writer.write(request(path=b"/endless"))
        for _ in range(15):
            await reader.readexactly(2**20)
            await asyncio.sleep(0.1)
        assert not app.left.is_set()
        writer.transport.abort()
        await asyncio.wait_for(app.left.wait(), 5)


@pytest.mark.parametrize("path", ["/", "/endless"])
async def test_a_client_that_stands_still_does_not_keep_the_server_from_ending(path, monkeypatch):
    monkeypatch.setattr("server.connection.LAST_SECONDS", 0.3)
    async with served() as connect:
        if path == "/endless":
            _open = await left_unread(connect)
        else:
            _reader, writer = _open = await connect()
            writer.write(request(body=b"12345")[:-2])
        await asyncio.sleep(0.1)
        await connect.end()


async def test_a_request_that_comes_whole_in_time_is_answered_though_the_server_ends():
    async with served() as connect:
        reader, writer = await connect()
        whole = request(body=b"12345")
        writer.write(whole[:-2])
        await asyncio.sleep(0.1)
        ending = asyncio.create_task(connect.end())
        await asyncio.sleep(0.5)
        writer.write(whole[-2:])
        assert await answer_of(reader) == (200, b"%8d" % 5)
        await ending


CHUNKED = b"POST %s HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"


async def test_trailers_are_no_headers_of_this_request_nor_of_the_next():
    app = App()
    async with served(app) as connect:
        reader, writer = await connect()
        for _ in range(2):
            writer.write(CHUNKED % b"/" + b"0\r\nauthorization: Bearer key\r\nexpect: 100-continue\r\n\r\n")
            assert await answer_of(reader) == (200, b"%8d" % 5)
        assert app.headers == [[b"transfer-encoding"]] * 2


@pytest.mark.parametrize("path", [b"/", b"/refused"])
@pytest.mark.parametrize(
    ("begin", "line"),
    [(b"0\r\n", b"x: y\r\n"), (b"0\r\nx: ", b"y" * 100), (b"5;", b"x" * 100)],
    ids=["trailers", "trailer", "chunk extension"],
)
async def test_what_follows_a_head_and_is_no_body_is_given_up_too(path, begin, line):
    async with served() as connect:
        _, writer = await connect()
        writer.write(CHUNKED % path + begin)
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionError):
                while connect.open:
                    writer.write(line)
                    await writer.drain()
                    await asyncio.sleep(0.001)


async def test_blank_lines_between_requests_are_given_up():
    async with served() as connect:
        reader, writer = await connect()
        writer.write(request())
        assert (await answer_of(reader))[0] == 200
        writer.write(b"\r\n" * 10_000)
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""


async def test_a_body_in_small_chunks_passes():
    async with served() as connect:
        reader, writer = await connect()
        writer.write(CHUNKED % b"/" + b"1\r\nx\r\n" * 5000 + b"0\r\n\r\n")
        assert await answer_of(reader) == (200, b"%8d" % 5005)


@pytest.mark.parametrize(("path", "length", "rest"), [(b"/", 0, b"\r\n"), (b"/refused", 10_000, b"1")])
async def test_a_client_that_has_its_answer_may_not_go_on_sending_for_ever(path, length, rest):
    async with served(client_seconds=0.5) as connect:
        reader, writer = await connect()
        writer.write(b"POST %s HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % (path, length))
        await answer_of(reader)
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionError):
                while connect.open:
                    writer.write(rest)
                    await asyncio.sleep(0.05)


async def test_a_connection_is_used_again_after_a_body_that_came_late():
    async with served() as connect:
        reader, writer = await connect()
        writer.write(b"POST /refused HTTP/1.1\r\ncontent-length: 5\r\n\r\n")
        assert await answer_of(reader) == (401, b"")
        writer.write(b"hello" + request(body=b"123"))
        assert await answer_of(reader) == (200, b"%8d" % 3)


async def test_a_client_that_stops_reading_is_left_though_it_asks_on():
    app = App()
    async with served(app, client_seconds=0.5) as connect:
        _reader, writer = await left_unread(connect)
        await asyncio.sleep(0.2)
        writer.write(request())
        await asyncio.wait_for(app.left.wait(), 3)


@pytest.mark.parametrize("before", [0, 1])
async def test_an_answer_ends_when_its_client_leaves_though_it_asked_on(before):
    app = App()
    async with served(app) as connect:
        reader, writer = await connect()
        writer.write(request() * before + request(path=b"/endless") + request())
        for _ in range(before + 1):
            await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()
        await asyncio.wait_for(app.left.wait(), 3)


async def test_a_client_that_reads_a_large_answer_slowly_gets_all_of_it():
    size = 40 * len(MEGABYTE)
    async with served(App(size), client_seconds=0.3) as connect:
        reader, writer = await connect()
        writer.write(request(path=b"/large"))
        await reader.readuntil(b"\r\n\r\n")
        began = asyncio.get_running_loop().time()
        for _ in range(40):
            await reader.readexactly(len(MEGABYTE))
            await asyncio.sleep(0.03)
        assert asyncio.get_running_loop().time() - began > 1


async def test_a_client_that_does_not_read_the_end_of_its_last_answer_is_left():
    app = App(60_000)
    async with served(app, client_seconds=0.3) as connect:
        reader, writer = await connect(window=2048)
        reader._transport.pause_reading()
        writer.write(b"GET /large HTTP/1.1\r\nconnection: close\r\n\r\n")
        await asyncio.sleep(0.1)
        assert connect.open
        async with asyncio.timeout(3):
            while connect.open:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
