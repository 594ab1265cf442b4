"""The list of replicas that Prometheus scrapes under Ray."""

import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def addresses(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "deploy" / "ray"))
    from stepgrpo_ray import Addresses

    return Addresses()


@contextmanager
def replica(on_probe=lambda: None):
    """The address of a server of metrics that does ``on_probe`` before it answers."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            on_probe()
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@contextmanager
def other_program():
    """The address of a program that does not speak HTTP."""

    def answer():
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def replicas(addresses):
    return [each["labels"]["replica"] for each in addresses.listed()]


def test_a_replica_is_listed_as_prometheus_reads_it(addresses):
    with replica() as address:
        addresses.add("a", address)
        assert addresses.listed() == [{"targets": [address], "labels": {"replica": "a"}}]


def test_a_replica_that_is_added_during_the_probes_is_listed(addresses):
    with replica() as second, replica(lambda: addresses.add("b", second)) as first:
        addresses.add("a", first)
        assert "a" in replicas(addresses)
        assert replicas(addresses) == ["a", "b"]


def test_a_dead_replica_is_forgotten(addresses):
    with replica() as address:
        addresses.add("a", address)
    assert replicas(addresses) == []


def test_a_dead_replica_whose_port_another_program_has_taken_is_forgotten(addresses):
    with other_program() as address:
        addresses.add("a", address)
        assert replicas(addresses) == []


def test_a_replica_that_was_forgotten_comes_back_when_it_adds_itself(addresses):
    with replica() as address:
        addresses.add("a", "127.0.0.1:1")
        assert replicas(addresses) == []
        addresses.add("a", address)
        assert replicas(addresses) == ["a"]
