"""Ray Serve runs two replicas of the server; one is killed under load, and the metrics of both add up."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from openai import OpenAI
from prometheus import free_port
from prometheus_client.parser import text_string_to_metric_families

pytestmark = [pytest.mark.integration, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 400
PROMETHEUS = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.25"}
QUESTION = [{"role": "user", "content": "How much is 12 plus 7?"}]
DRIVER = ROOT / "tests" / "plugins" / "ray_driver.py"


class Cluster:
    """A Ray cluster of one machine that serves the bundled checkpoint."""

    def __init__(self, process, url):
        self.process = process
        self.url = url

    @property
    def openai(self):
        return OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=8)

    def kill_a_replica(self, deployment):
        self.process.stdin.write(f"{deployment}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "KILLED\n"

    def replicas(self):
        """Address of each replica's metrics, by the replica."""
        listed = httpx.get(f"{self.url}/targets/", timeout=30).raise_for_status().json()
        return {each["labels"]["replica"]: each["targets"][0] for each in listed}

    def wait_for_two(self):
        """The two replicas, once both are listed."""
        deadline = time.monotonic() + START_SECONDS
        listed = set()
        while len(listed) < 2 and time.monotonic() < deadline:
            time.sleep(2)
            with contextlib.suppress(httpx.HTTPError):  # the process that keeps the list may be the one that was killed
                listed = set(self.replicas())
        assert len(listed) == 2
        return listed

    def total(self, name):
        """A sample over all replicas, and what each has of it."""
        parts = []
        for address in self.replicas().values():
            families = text_string_to_metric_families(httpx.get(f"http://{address}/metrics", headers=PROMETHEUS).text)
            parts.append(sum(s.value for family in families for s in family.samples if s.name == name))
        return sum(parts), parts


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ray")
    port = free_port()
    paths = os.pathsep.join([str(ROOT), str(ROOT / "deploy" / "ray")])
    environment = {**os.environ, "PYTHONPATH": paths, "RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": "/tmp"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, DRIVER, str(port)],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    cluster = Cluster(process, f"http://127.0.0.1:{port}")
    try:
        for line in process.stdout:
            if line.strip() == "READY":
                break
        else:
            pytest.fail((folder / "log").read_text()[-6000:])
        yield cluster
    finally:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.wait(120)


def ask(cluster, n):
    """Ask ``n`` questions one after the other; returns the completion tokens that the answers report."""
    with cluster.openai as openai:
        answers = [
            openai.chat.completions.create(model="step-grpo", messages=QUESTION, max_tokens=100) for _ in range(n)
        ]
    assert all(answer.choices[0].model_extra["reasoning_efficiency"]["tokens"] for answer in answers)
    return sum(answer.usage.completion_tokens for answer in answers)


def test_the_metrics_of_two_replicas_add_up_to_what_was_answered(cluster):
    assert len(cluster.replicas()) == 2
    tokens = ask(cluster, 30)
    total, parts = cluster.total("stepgrpo_completion_tokens_count")
    assert total == 30
    assert all(parts), "both replicas answered"
    assert cluster.total("stepgrpo_completion_tokens_sum")[0] == tokens
    assert cluster.total("stepgrpo_exits_total")[0] == 30
    assert cluster.total("vllm:request_generation_tokens_sum")[0] == tokens


def test_no_request_fails_when_a_replica_is_killed_and_ray_replaces_it(cluster):
    before = set(cluster.replicas())
    cluster.kill_a_replica("Server")
    ask(cluster, 30)  # the client retries; an answer that does not come raises
    after = cluster.wait_for_two()
    assert len(after - before) == 1
    ask(cluster, 10)


def test_the_list_of_replicas_is_whole_again_after_the_process_that_keeps_it_was_killed(cluster):
    before = set(cluster.replicas())
    cluster.kill_a_replica("Targets")
    assert cluster.wait_for_two() == before
