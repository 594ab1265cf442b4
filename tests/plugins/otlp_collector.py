"""A receiver of OpenTelemetry traces over HTTP, in this process."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class CollectedSpan:
    """A span that came in; ids are hexadecimal."""

    name: str
    trace: str
    span: str
    parent: str
    attributes: dict[str, Any]


class Collector:
    """Keeps the spans that are sent to it."""

    def __init__(self) -> None:
        self.spans: list[CollectedSpan] = []
        self.url = ""

    @contextmanager
    def running(self) -> Iterator["Collector"]:
        """Listen on a free port as long as the context is open."""
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                collector.take(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def take(self, body: bytes) -> None:
        """Keep the spans of one export."""
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                self.spans += [
                    CollectedSpan(
                        span.name,
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        {attribute.key: _value(attribute.value) for attribute in span.attributes},
                    )
                    for span in scope.spans
                ]

    def wait_for(self, trace: str, count: int) -> dict[str, CollectedSpan]:
        """The spans of a trace by their names, once there are so many."""
        deadline = time.monotonic() + 20
        while True:
            found = {span.name: span for span in self.spans if span.trace == trace}
            if len(found) >= count or time.monotonic() > deadline:
                return found
            time.sleep(0.1)


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [_value(each) for each in value.array_value.values] if kind == "array_value" else getattr(value, kind)
