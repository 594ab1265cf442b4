"""The server under load, spoken to over one connection of gevent's."""

import json
import sys
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from geventhttpclient import HTTPClient
from geventhttpclient.response import HTTPSocketResponse

PATH: Final = "/v1/chat/completions"


class HungUpError(Exception):
    """The client went away in the middle of an answer, as the scenario wants."""


class Server:
    """The server under load, spoken to over one connection."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or parts.hostname is None:
            sys.exit("loadtests: give the server's address, such as --host http://127.0.0.1:8000")
        self._base = parts.path.rstrip("/").removesuffix("/v1")
        self._host, self._port, self._tls = parts.hostname, parts.port, parts.scheme == "https"
        self._client = self._connected()

    def get(self, path: str, key: str = "") -> str:
        """Body of a page."""
        response = self._client.get(self._base + path, headers=_headers(key))
        body = bytes(response.read()).decode()
        if response.status_code != 200:
            raise ConnectionError(f"{path} answers {response.status_code}: {body[:200]}")
        return body

    def post(self, body: dict[str, Any], key: str) -> HTTPSocketResponse:
        """Send a request for a chat completion."""
        return self._client.post(self._base + PATH, body=json.dumps(body), headers=_headers(key))

    def reconnect(self) -> None:
        """Close the connection, whatever state it is in; the next request opens another."""
        self.close()
        self._client = self._connected()

    def close(self) -> None:
        """Close the connection for good."""
        self._client.close()

    def _connected(self) -> HTTPClient:
        return HTTPClient(self._host, self._port, ssl=self._tls, connection_timeout=30, network_timeout=300)


def lines_of(response: HTTPSocketResponse, stay: int | None) -> Iterator[bytes]:
    """The lines of a stream; the client hangs up after ``stay`` chunks, if the answer takes more."""
    chunks = 0
    while line := bytes(response.readline(b"\n")):
        if chunks == stay:
            response.release()
            raise HungUpError
        chunks += line.startswith(b"data: ")
        yield line


def _headers(key: str) -> dict[str, str]:
    return {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
