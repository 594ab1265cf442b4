"""A server that computes for a while before every answer: ``python busy_server.py STATUS`` prints its URL."""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STATUS = int(sys.argv[1])
CPU_SECONDS = 0.02


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        until = time.thread_time() + CPU_SECONDS
        while time.thread_time() < until:
            pass
        answer = json.dumps({"usage": {"completion_tokens": body["max_tokens"]}}).encode()
        self.send_response(STATUS)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None: ...


with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
