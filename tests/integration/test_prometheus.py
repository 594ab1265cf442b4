"""A real Prometheus scrapes the real server under load: every panel and every rule has data, and alerts fire."""

import math
import re
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import openai
import panel_queries
import psutil
import pytest
import yaml
from programs import program
from prometheus import FOLDER, Prometheus, running
from real_server import start_server, stop_server

pytestmark = pytest.mark.integration

SPEED = 25  # a scrape every 200 ms, so that seconds of load show what minutes do in operation
MINUTE_MS = 250  # in the rules; keeps each window of 5 minutes above four scrapes
LOAD_SECONDS = 8
NOWHERE = "127.0.0.1:1"
PANELS = list(panel_queries.panels(window="3s", seconds=10))
RULES = [
    rule["record"]
    for group in yaml.safe_load((FOLDER / "rules" / "recording.yml").read_text())["groups"]
    for rule in group["rules"]
]
SHADOW = 'source="shadow"'
SHADOW_QUERIES = [query.expression for panel in PANELS for query in panel.queries if SHADOW in query.expression]
UP_TO = {"Exit position against the baseline": 4.0}
"""Shares that may exceed 1."""
STRAIN = ("--max-model-len", "1024", "--num-gpu-blocks-override", "17", "--request-timeout", "10")
"""A cache of 16 blocks of 128 tokens, and little patience."""
OVERLOAD = {"StepgrpoQueueing", "StepgrpoCacheFull", "StepgrpoErrors"}


def question(number):
    text = (
        f"Sam starts with {number % 90 + 2} coins and gets 4 more each day. How many coins does Sam have the first time"
    )
    return [{"role": "user", "content": f"{text} that 7 friends can share them equally?"}]


def ask_for(server, seconds, clients=8, **options):
    """Clients ask one question after the other."""
    until = time.monotonic() + seconds

    def client(number):
        with server.openai as asking:
            while time.monotonic() < until:
                asking.chat.completions.create(
                    model=server.model, messages=question(number), **({"max_tokens": 300} | options)
                )
                number += clients

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(client, range(clients)))


def scaled(text):
    """Rules whose minutes take ``MINUTE_MS``, that are content with few answers, and do not wait before firing."""
    minutes = {"m": 1, "h": 60, "d": 1440}
    text = re.sub(r"for: \d+m", "for: 0s", text).replace(">= 100", ">= 10")
    return re.sub(r"\[(\d+)([mhd])\]", lambda found: f"[{int(found[1]) * minutes[found[2]] * MINUTE_MS}ms]", text)


@contextmanager
def watching(folder, *targets):
    """A real Prometheus with the project's own rules, scaled."""
    program("prometheus", "Debian's package prometheus")
    rules = folder / "configuration"
    shutil.copytree(FOLDER, rules)
    for path in rules.glob("rules/*.yml"):
        path.write_text(scaled(path.read_text()))
    with running(targets, folder / "running", speed=SPEED, configuration=rules) as prometheus:
        yield prometheus


@dataclass
class Observed:
    """What Prometheus saw of ordinary answers, and then of answers that think until their tokens run out.

    Attributes:
        ordinary: when the ordinary answers ended.
        calm: alerts that fired then.
        alarmed: instances for which an alert fires after the others, by alert.
    """

    prometheus: Prometheus
    ordinary: float
    calm: set[str]
    alarmed: dict[str, str]


@pytest.fixture(scope="module")
def observed(server, tmp_path_factory):
    """Of the two targets one is an address where nothing listens."""
    target = server.url.removeprefix("http://")
    with watching(tmp_path_factory.mktemp("observed"), target, NOWHERE) as prometheus:
        ask_for(server, LOAD_SECONDS)
        ordinary = time.time()
        calm = prometheus.firing()
        ask_for(server, LOAD_SECONDS, max_tokens=200, **server.endless())
        time.sleep(1.5)  # a scrape, an evaluation of the rules, and another of the alerts
        alerts = prometheus.query('ALERTS{alertstate="firing"}')
        alarmed = {each["metric"]["alertname"]: each["metric"].get("instance", "") for each in alerts}
        yield Observed(prometheus, ordinary, calm, alarmed)


@dataclass
class Strained:
    """What Prometheus saw of a small server: while its answers were compared, in an overload, and when its engine died.

    Attributes:
        saved: samples of each query of shadow requests.
        compared: alerts that fired after the comparisons.
        overloaded: those that fired at some time of the overload.
        died: those that fire after the death.
    """

    saved: dict[str, list[float]]
    compared: set[str]
    overloaded: set[str]
    died: set[str]


@pytest.fixture(scope="module")
def strained(server, checkpoint, tmp_path_factory):
    """The server that all tests share stands in for the base model; the two answer alike, so nothing is saved."""
    folder = tmp_path_factory.mktemp("strained")
    shadow = ("--shadow-url", server.url, "--shadow-share", "1", "--shadow-per-minute", "1000")
    small = start_server(checkpoint, folder / "log", *shadow, *STRAIN)
    try:
        with watching(folder, small.url.removeprefix("http://")) as prometheus:
            deadline = time.monotonic() + 60
            while "StepgrpoSavingsBelowCalibration" not in prometheus.firing() and time.monotonic() < deadline:
                ask_for(small, 1, clients=4, temperature=0)
            saved = {query: values(prometheus.query(query)) for query in SHADOW_QUERIES}
            compared = prometheus.firing()
            with overload(small):
                overloaded = fired(prometheus, OVERLOAD)
                for process in psutil.Process(small.process.pid).children(recursive=True):
                    process.kill()
            small.process.wait(30)
            yield Strained(saved, compared, overloaded, fired(prometheus, {"StepgrpoEngineDown"}))
    finally:
        stop_server(small)


@contextmanager
def overload(server):
    """Six clients ask for far more answers than the server can give in time, until the block ends."""
    done = threading.Event()
    endless = server.endless()

    def client(number):
        with server.openai as asking:
            while not done.is_set():
                with suppress(openai.APIError):
                    asking.chat.completions.create(
                        model=server.model, messages=question(number), n=128, max_tokens=50, **endless
                    )

    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(client, number) for number in range(6)]
        try:
            yield
        finally:
            done.set()
    for each in asked:
        each.result()


def fired(prometheus, wanted):
    """Alerts that fire until each of the wanted ones has fired."""
    found = set()
    deadline = time.monotonic() + 60
    while not wanted <= found and time.monotonic() < deadline:
        found |= prometheus.firing()
        time.sleep(0.1)
    return found


def values(samples):
    return [float(sample["value"][1]) for sample in samples]


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: f"{panel.dashboard}: {panel.title}")
def test_every_query_of_every_panel_has_plausible_data(observed, panel):
    for query in panel.queries:
        found = values(observed.prometheus.query(query.expression, observed.ordinary))
        if SHADOW in query.expression:
            continue  # no request is replayed here: see below
        assert found, query.expression
        assert all(math.isfinite(value) and value >= 0 for value in found), found
        if panel.unit == "percentunit":
            assert max(found) <= UP_TO.get(panel.title, 1.0)


@pytest.mark.parametrize("query", SHADOW_QUERIES)
def test_shadow_requests_show_what_they_found(strained, query):
    (saved,) = strained.saved[query]
    assert saved == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize("record", RULES)
def test_every_recording_rule_has_plausible_data(observed, record):
    found = values(observed.prometheus.query(record, observed.ordinary))
    assert found
    assert all(math.isfinite(value) and value >= 0 for value in found)
    if "ratio" in record or "share" in record:
        assert max(found) <= 1


def test_the_figures_agree_with_each_other_and_with_the_server(observed, server):
    panels = {panel.title: panel for panel in PANELS}

    def shown(title, query=0):
        expression = panels[title].queries[query].expression
        (value,) = values(observed.prometheus.query(expression, observed.ordinary))
        return value

    parts = shown("Thinking and answer", 0) + shown("Thinking and answer", 1)
    assert parts == pytest.approx(shown("Mean tokens per answer"))
    assert shown("Saved, calibrated") == pytest.approx(server.card.calibration.savings_ratio.mean)
    answers, tokens = shown("Answers per second"), shown("Output tokens per second")
    assert tokens == pytest.approx(answers * shown("Mean tokens per answer"), rel=0.25)
    assert shown("Percentiles", 0) <= shown("Percentiles", 1) <= shown("Percentiles", 2)
    assert shown("Requests per second") == pytest.approx(answers, rel=0.25)
    assert shown("Servers up") == 1


@pytest.mark.parametrize("alert", ["StepgrpoOverthinking", "StepgrpoLengthExits"])
def test_thinking_until_the_tokens_run_out_fires(observed, alert):
    assert alert not in observed.calm
    assert alert in observed.alarmed


def test_a_server_that_is_not_there_fires(observed):
    assert observed.alarmed["StepgrpoEngineDown"] == NOWHERE


def test_savings_below_the_calibration_fire(strained):
    assert "StepgrpoSavingsBelowCalibration" in strained.compared


@pytest.mark.parametrize("alert", sorted(OVERLOAD))
def test_an_overload_fires(strained, alert):
    assert alert not in strained.compared
    assert alert in strained.overloaded


def test_a_server_whose_engine_was_killed_fires(strained):
    assert "StepgrpoEngineDown" in strained.died


def test_every_alert_is_provoked_here():
    groups = yaml.safe_load((FOLDER / "rules" / "alerts.yml").read_text())["groups"]
    thinking, service = {"StepgrpoOverthinking", "StepgrpoLengthExits"}, {"StepgrpoEngineDown"}
    provoked = thinking | service | OVERLOAD | {"StepgrpoSavingsBelowCalibration"}
    assert {rule["alert"] for group in groups for rule in group["rules"]} == provoked


def test_what_was_not_provoked_does_not_fire(observed):
    assert observed.calm == {"StepgrpoEngineDown"}
    assert set(observed.alarmed) == {"StepgrpoOverthinking", "StepgrpoLengthExits", "StepgrpoEngineDown"}
