"""A real Prometheus scrapes the real server under load: every panel and every rule has data, and alerts fire."""

import math
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import panel_queries
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
UP_TO = {"Exit position against the baseline": 4.0}
"""Shares that may exceed 1."""


def question(number):
    text = (
        f"Sam starts with {number % 90 + 2} coins and gets 4 more each day. How many coins does Sam have the first time"
    )
    return [{"role": "user", "content": f"{text} that 7 friends can share them equally?"}]


def ask_for(server, seconds, **options):
    """Eight clients ask one question after the other."""
    until = time.monotonic() + seconds

    def client(number):
        with server.openai as openai:
            while time.monotonic() < until:
                openai.chat.completions.create(
                    model=server.model, messages=question(number), **({"max_tokens": 300} | options)
                )
                number += 8

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(client, range(8)))


def scaled(text):
    """Rules whose minutes take ``MINUTE_MS``, that are content with few answers, and do not wait before firing."""
    minutes = {"m": 1, "h": 60, "d": 1440}
    text = re.sub(r"for: \d+m", "for: 0s", text).replace(">= 100", ">= 10")
    return re.sub(r"\[(\d+)([mhd])\]", lambda found: f"[{int(found[1]) * minutes[found[2]] * MINUTE_MS}ms]", text)


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
    """The real Prometheus, with the project's own rules; of its two targets one is an address where nothing listens."""
    program("prometheus", "Debian's package prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    rules = folder / "configuration"
    shutil.copytree(FOLDER, rules)
    for path in rules.glob("rules/*.yml"):
        path.write_text(scaled(path.read_text()))
    targets = [server.url.removeprefix("http://"), NOWHERE]
    with running(targets, folder / "running", speed=SPEED, configuration=rules) as prometheus:
        ask_for(server, LOAD_SECONDS)
        ordinary = time.time()
        calm = prometheus.firing()
        ask_for(server, LOAD_SECONDS, max_tokens=200, **server.endless())
        time.sleep(1.5)  # a scrape, an evaluation of the rules, and another of the alerts
        alerts = prometheus.query('ALERTS{alertstate="firing"}')
        alarmed = {each["metric"]["alertname"]: each["metric"].get("instance", "") for each in alerts}
        yield Observed(prometheus, ordinary, calm, alarmed)


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


def test_shadow_requests_show_what_they_found(server, checkpoint, tmp_path):
    """The server that all tests share stands in for the base model; the two answer alike, so nothing is saved."""
    queries = [query.expression for panel in PANELS for query in panel.queries if SHADOW in query.expression]
    options = ("--shadow-url", server.url, "--shadow-share", "1", "--shadow-per-minute", "1000")
    replaying = start_server(checkpoint, tmp_path / "log", *options)
    try:
        target = replaying.url.removeprefix("http://")
        with running([target], tmp_path / "prometheus", speed=SPEED) as prometheus:
            deadline = time.monotonic() + 60
            compared = 'stepgrpo_shadow_requests_total{outcome="compared"}'
            while max(values(prometheus.query(compared)), default=0) < 10 and time.monotonic() < deadline:
                ask_for(replaying, 1, temperature=0)
            assert queries
            for query in queries:
                (saved,) = values(prometheus.query(query))
                assert saved == pytest.approx(0.0, abs=0.05)
    finally:
        stop_server(replaying)


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


def test_what_was_not_provoked_does_not_fire(observed):
    assert observed.calm == {"StepgrpoEngineDown"}
    assert set(observed.alarmed) == {"StepgrpoOverthinking", "StepgrpoLengthExits", "StepgrpoEngineDown"}
