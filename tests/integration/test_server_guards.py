"""A server that is set up for strangers: TLS, API keys from a file, limits. At last its engine is killed."""

import concurrent.futures
import contextlib
import json
import subprocess
import threading
import time

import httpx
import openai
import psutil
import pytest
from otlp_collector import Collector
from programs import program
from real_server import start_server, stop_server
from scripted_server import ScriptedServer

pytestmark = pytest.mark.integration

CHAT = "/v1/chat/completions"
QUESTION = [{"role": "user", "content": "How much is 12 plus 7?"}]
ENDLESS = {"ignore_eos": True, "max_tokens": 1500}
KEYS = """\
- {name: alice, key: key-of-alice}
- {name: bob, key: key-of-bob-1, max_concurrent: 1}
- {name: carol, key: key-of-carol, tokens_per_minute: 20}
"""


class Guarded:
    """The server, and clients of its that trust its certificate."""

    def __init__(self, folder, checkpoint, base, collector):
        self.keys = folder / "keys.yaml"
        self.keys.write_text(KEYS)
        key, self.certificate = folder / "key.pem", folder / "certificate.pem"
        command = [
            program("openssl", "openssl"),
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ]
        command += ["-nodes", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
        subprocess.run([*command, "-keyout", key, "-out", self.certificate], check=True, capture_output=True)
        options = ["--ssl-keyfile", str(key), "--ssl-certfile", str(self.certificate), "--max-body-bytes", "20000"]
        options += ["--api-keys-file", str(self.keys), "--request-timeout", "4", "--max-queue", "3"]
        options += ["--shadow-url", base.url, "--shadow-share", "1", "--shadow-max-busy", "0", "--client-timeout", "2"]
        options += ["--log-format", "json", "--otlp-traces-endpoint", f"{collector.url}/v1/traces"]
        self.base, self.collector = base, collector
        self.server = start_server(
            checkpoint, folder / "log", *options, OTEL_EXPORTER_OTLP_TRACES_PROTOCOL="http/protobuf"
        )

    def client(self, key=None, **headers):
        if key is not None:
            headers["authorization"] = f"Bearer {key}"
        return httpx.Client(base_url=self.server.url, headers=headers, verify=str(self.certificate), timeout=60)

    def openai(self, key):
        http = httpx.Client(verify=str(self.certificate))
        return openai.OpenAI(base_url=f"{self.server.url}/v1", api_key=key, http_client=http, max_retries=0)

    @property
    def engine(self):
        """The processes of the engine."""
        return psutil.Process(self.server.process.pid).children(recursive=True)

    def ask(self, key="key-of-alice", **body):
        body = {"model": self.server.model, "messages": QUESTION, "max_tokens": 20} | body
        with self.client(key) as client:
            return client.post(CHAT, json=body)


@pytest.fixture(scope="module")
def guarded(checkpoint, tmp_path_factory):
    with ScriptedServer().running() as base, Collector().running() as collector:
        base.refusal = (200, {"usage": {"completion_tokens": 400}}, {})
        guarded = Guarded(tmp_path_factory.mktemp("guarded"), checkpoint, base, collector)
        yield guarded
        stop_server(guarded.server)


def test_only_tls_is_spoken(guarded):
    with pytest.raises(httpx.TransportError):
        httpx.get(guarded.server.url.replace("https", "http") + "/health")
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(guarded.server.url + "/health")


@pytest.mark.parametrize("path", ["/health", "/ready", "/version", "/metrics", "/"])
def test_probes_need_no_key(guarded, path):
    with guarded.client() as client:
        assert client.get(path).status_code == 200


def test_every_other_route_of_the_server_needs_a_key(guarded):
    with guarded.client("key-of-alice") as client:
        routes = client.get("/openapi.json").json()["paths"]
    open_routes = {"/", "/health", "/ready", "/version", "/metrics"}
    closed = [path for path in routes if path not in open_routes and "{" not in path]
    assert {CHAT, "/v1/models", "/tokenize", "/v1/efficiency"} <= set(closed)
    with guarded.client() as client:
        answers = {path: client.post(path, json={}).status_code for path in [*closed, "/openapi.json", "/docs"]}
    assert set(answers.values()) == {401}


def test_the_sdk_says_what_is_wrong_with_the_key(guarded):
    with pytest.raises(openai.AuthenticationError) as refused:
        guarded.openai("no-such-key").models.list()
    assert refused.value.code == "invalid_api_key"
    assert guarded.openai("key-of-alice").models.list().data[0].id == guarded.server.model


def test_a_key_that_is_added_or_withdrawn_counts_within_seconds(guarded):
    guarded.keys.write_text(KEYS + "- {name: dora, key: key-of-dora}\n")
    time.sleep(1.1)
    assert guarded.ask("key-of-dora").status_code == 200
    guarded.keys.write_text(KEYS)
    time.sleep(1.1)
    assert guarded.ask("key-of-dora").status_code == 401


@contextlib.contextmanager
def in_flight(guarded, count, key):
    """So many endless requests that the engine works on."""
    with concurrent.futures.ThreadPoolExecutor(count) as pool, guarded.client(key) as client:

        def hold():
            body = {"model": guarded.server.model, "messages": QUESTION, "stream": True, **ENDLESS}
            with client.stream("POST", CHAT, json=body) as answer:
                events = answer.iter_lines()
                next(events)
                started.release()
                for _ in events:
                    if done:
                        return

        done = []
        started = threading.Semaphore(0)
        holding = [pool.submit(hold) for _ in range(count)]
        for _ in holding:
            assert started.acquire(timeout=10)
        yield
        done.append(True)
        for each in holding:
            each.result(20)


def test_a_key_may_have_so_many_requests_in_flight(guarded):
    with in_flight(guarded, 1, "key-of-bob-1"):
        refused = guarded.ask("key-of-bob-1")
        assert guarded.ask("key-of-alice").status_code == 200
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["x-ratelimit-limit-requests"] == "1"
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"


def test_a_key_may_use_so_many_tokens(guarded):
    first = guarded.ask("key-of-carol")
    assert first.status_code == 200
    used = first.json()["usage"]["total_tokens"]
    assert used > 20
    refused = guarded.ask("key-of-carol")
    assert refused.status_code == 429
    assert refused.headers["x-ratelimit-remaining-tokens"] == "0"
    assert 1 <= int(refused.headers["retry-after"]) <= (used - 20) * 3 + 4


def test_a_full_queue_is_told(guarded):
    with in_flight(guarded, 3, "key-of-alice"):
        refused = guarded.ask()
        with guarded.client() as client:
            assert client.get("/ready").status_code == 200
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert "3 requests are running or waiting" in refused.json()["error"]["message"]


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_is_too_large(guarded, announced):
    body = json.dumps({"model": guarded.server.model, "messages": [{"role": "user", "content": "x" * 20_000}]})
    content = body.encode() if announced else iter([body[:9000].encode(), body[9000:].encode()])
    with guarded.client("key-of-alice") as client:
        refused = client.post(CHAT, content=content, headers={"content-type": "application/json"})
    assert refused.status_code == 413
    assert refused.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("stream", [True, False])
def test_a_request_that_takes_too_long_is_ended_in_the_engine_too(guarded, stream):
    began = time.monotonic()
    answer = guarded.ask(stream=stream, n=16, **ENDLESS)
    assert 3.5 < time.monotonic() - began < 10
    assert answer.status_code == (200 if stream else 504)
    error, done = answer.text.split("\n\n")[-3:-1] if stream else (answer.text, None)
    assert "took longer than 4 seconds" in json.loads(error.removeprefix("data: "))["error"]["message"]
    assert done in (None, "data: [DONE]")
    assert _settles(guarded)


def _settles(guarded):
    """Whether the engine has nothing left to do soon."""
    deadline = time.monotonic() + 10
    with guarded.client() as client:
        while time.monotonic() < deadline:
            lines = client.get("/metrics").text.splitlines()
            if all(line.endswith(" 0.0") for line in lines if line.startswith("vllm:num_requests_")):
                return True
            time.sleep(0.2)
    return False


def _shadowed(guarded):
    """What was compared: pairs, their tokens, and how often none was made."""
    with guarded.client("key-of-alice") as client:
        (model,) = client.get("/v1/efficiency").json()["data"]
        skipped = f'stepgrpo_shadow_requests_total{{model_name="{guarded.server.model}",outcome="skipped"}} '
        (line,) = [line for line in client.get("/metrics").text.splitlines() if line.startswith(skipped)]
    pairs = model["savings"].get("shadow", {"answers": 0, "actual_tokens": 0, "baseline_tokens": 0})
    return pairs["answers"], pairs["actual_tokens"], pairs["baseline_tokens"], float(line.split()[-1])


def _becomes(expected, value):
    """Whether a value is soon what is expected."""
    deadline = time.monotonic() + 5
    while value() != expected and time.monotonic() < deadline:
        time.sleep(0.1)
    return value() == expected


def test_answers_are_compared_with_those_of_the_base_model_while_the_engine_is_idle(guarded):
    assert _settles(guarded)
    guarded.base.asked.clear()
    before = _shadowed(guarded)
    tokens = guarded.ask(stream=False, reasoning_efficiency=False).json()["usage"]["completion_tokens"]
    compared = (before[0] + 1, before[1] + tokens, before[2] + 400, before[3])
    assert _becomes(compared, lambda: _shadowed(guarded))
    ((headers, asked),) = guarded.base.asked
    assert asked == {"model": "scripted", "messages": QUESTION, "max_tokens": 20}
    assert "key-of-alice" not in str(headers)
    with in_flight(guarded, 1, "key-of-alice"):
        assert guarded.ask().status_code == 200
        assert _becomes((*compared[:3], before[3] + 1), lambda: _shadowed(guarded))
    assert len(guarded.base.asked) == 1


def test_other_origins_may_not_ask(guarded):
    with guarded.client("key-of-alice", origin="https://elsewhere.example") as client:
        assert "access-control-allow-origin" not in client.get("/v1/models").headers


def test_a_request_id_is_the_same_everywhere(guarded):
    with guarded.client("key-of-alice", **{"x-request-id": "mine-1"}) as client:
        answer = client.post(CHAT, json={"model": guarded.server.model, "messages": QUESTION, "max_tokens": 3})
    assert answer.headers["x-request-id"] == "mine-1"
    assert answer.json()["id"] == "chatcmpl-mine-1"


def lines_of(guarded, request_id):
    """What the log says of a request."""
    lines = [line for line in guarded.server.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in map(json.loads, lines) if line.get("request_id") == request_id]


@pytest.mark.parametrize("stream", [True, False])
def test_the_log_has_a_line_for_each_request_with_its_report(guarded, stream):
    body = {"model": guarded.server.model, "messages": QUESTION, "max_tokens": 9, "stream": stream}
    with guarded.client("key-of-alice", **{"x-request-id": f"logged-{stream}"}) as client:
        answer = client.post(CHAT, json=body).text
    time.sleep(0.3)
    (line,) = lines_of(guarded, f"logged-{stream}")
    assert (line["level"], line["client"], line["path"], line["status"]) == ("INFO", "alice", CHAT, 200)
    (report,) = line["choices"]
    assert json.dumps(report, separators=(",", ":")) in answer.replace(" ", "")
    assert line["completion_tokens"] == report["tokens"]["completion"] <= 9


def test_a_refusal_is_logged_without_what_was_asked(guarded):
    with guarded.client("key-of-alice", **{"x-request-id": "refused-1"}) as client:
        body = {"model": guarded.server.model, "messages": [{"role": "user", "content": "unspeakable"}], "n": "unheard"}
        assert client.post(CHAT, json=body).status_code == 400
        assert client.post(CHAT, content=b'{"unspeakable').status_code == 400
    time.sleep(0.3)
    assert [line["status"] for line in lines_of(guarded, "refused-1")] == [400, 400]
    assert "unspeakable" not in guarded.server.log.read_text()
    assert "unheard" not in guarded.server.log.read_text()


def test_a_request_is_traced_from_the_client_to_the_engine(guarded):
    with guarded.client("key-of-alice", traceparent=f"00-{'a' * 32}-{'b' * 16}-01") as client:
        client.post(CHAT, json={"model": guarded.server.model, "messages": QUESTION, "max_tokens": 9})
    spans = guarded.collector.wait_for("a" * 32, count=2)
    ours, vllms = spans[f"chat {guarded.server.model}"], spans["llm_request"]
    assert (ours.parent, vllms.parent) == ("b" * 16, ours.span)
    assert ours.attributes["gen_ai.usage.output_tokens"] == vllms.attributes["gen_ai.usage.completion_tokens"]
    assert len(ours.attributes["stepgrpo.exit.reason"]) == 1


def test_the_log_holds_no_key(guarded):
    assert "key-of-" not in guarded.server.log.read_text()


def test_an_engine_that_is_killed_is_seen_at_once(guarded):
    """Last: streams end with an error, readiness is off within 5 s, and the exit code tells the supervisor."""
    with guarded.client("key-of-alice") as client:
        body = {"model": guarded.server.model, "messages": QUESTION, "stream": True, **ENDLESS}
        with client.stream("POST", CHAT, json=body) as answer:
            events = answer.iter_lines()
            next(events)
            for process in guarded.engine:
                process.kill()
            killed = time.monotonic()
            rest = [line for line in events if line]
        assert time.monotonic() - killed < 5
        error = json.loads(rest[-2].removeprefix("data: "))["error"]
        assert error["type"] == "server_error"
        assert rest[-1] == "data: [DONE]"
        with contextlib.suppress(httpx.TransportError):  # it may be gone by now
            assert client.get("/ready").status_code == 503
            assert client.get("/health").status_code == 503
    assert guarded.server.process.wait(30) == 1
    assert guarded.server.log.read_text().splitlines()[-1] == "stepgrpo serve: the engine died; its log says why"
