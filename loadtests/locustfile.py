"""Locust users who stream answers from an OpenAI-compatible server. docs/loadtests.md lists the options."""

import json
import logging
import os
import random
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from http.client import HTTPException
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar, Final

from flask import Response, jsonify
from locust import LoadTestShape, User, constant, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.event import EventHook
from locust.runners import MasterRunner, WorkerRunner

from loadtests.charts import PAGE, SECONDS, History, Sums
from loadtests.connection import PATH, HungUpError, Server, lines_of
from loadtests.last_reports import LastReports, mark_last_report
from loadtests.load_report import Distribution, LoadReport, Thresholds
from loadtests.scenarios import SCENARIOS, Scenario
from loadtests.server_totals import Totals, totals_of
from loadtests.streaming import BrokenStreamError, Streamed, read_stream

QUESTIONS: Final = Path(__file__).with_name("questions.jsonl")
"""Held-out questions of the quickstart task, from its generator."""

FINISHING_SECONDS: Final = 60
"""How long users may take to finish their last answers, so that the totals are whole."""

REPORTING_SECONDS: Final = 10
"""How much longer workers may take to report them."""

ROWS: Final = "answer"
FIRST: Final = "time to first token (ms)"
GAP: Final = "time between tokens (us)"
TOKENS: Final = "tokens per answer"
STEPS: Final = "steps per answer"
HANG_UPS: Final = "hang-ups (ms)"
"""Rows of locust's statistics beside its own one for requests, which holds latency, failures and answers a second."""

answered = EventHook()
"""Fired with ``environment`` and ``streamed`` for each finished answer; listen to it in your own locustfile."""

log = logging.getLogger("loadtests")


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    """Our options beside locust's."""
    group = parser.add_argument_group("answers")
    group.add_argument(
        "--scenario",
        choices=sorted(SCENARIOS),
        default="steady",
        help="; ".join(f"{name}: {scenario.summary}" for name, scenario in SCENARIOS.items()),
    )
    group.add_argument("--model", default="", help="A served name; the server's first by default.")
    group.add_argument("--questions", default=str(QUESTIONS), help="Text, one a line, or JSON lines with `question`.")
    group.add_argument("--keys-file", default="", help="API keys, one a line, for the scenario many-keys.")
    group.add_argument("--max-tokens", type=int, default=1000, help="Most tokens of an answer.")
    group.add_argument("--temperature", type=float, default=1.0, help="Of sampling.")
    group.add_argument("--seed", type=int, default=0, help="Of the order of questions and of the scenario's chances.")
    group.add_argument("--report", default="", help="Folder for load.md and load.json.")
    group.add_argument("--max-failures", type=int, default=0, help="More failed requests fail the run.")
    group.add_argument("--max-ttft-p95", type=float, help="Milliseconds to the first token.")
    group.add_argument("--max-itl-p95", type=float, help="Milliseconds from token to token.")
    group.add_argument("--max-latency-p95", type=float, help="Milliseconds to the end of an answer.")
    group.add_argument("--min-answers-per-second", type=float, help="Finished answers a second.")
    group.add_argument(
        "--exact-totals",
        action="store_true",
        help="Answers, tokens and steps must equal what the server's metrics gained; nobody else may use it meanwhile.",
    )


class Run:
    """What all users of a process share: scenario, questions and keys, and the server's totals at the start.

    Made when a run starts, for a worker gets its options from the master then, and a master may get some on its page.

    Raises:
        OSError: a file of questions or keys cannot be read.
        ValueError: an option does not fit.
    """

    def __init__(self, environment: Environment) -> None:
        options = environment.parsed_options
        assert isinstance(options, Namespace)
        self.options = options
        self.url = environment.host or ""
        self.scenario: Scenario = SCENARIOS[options.scenario]
        if self.scenario.hang_ups and options.exact_totals:
            raise ValueError("clients that hang up count less than the server: leave out --exact-totals")
        self.questions = _questions(Path(options.questions))
        self.keys = _keys(options.keys_file) if self.scenario.many_keys else [os.environ.get("STEPGRPO_API_KEY", "")]
        self.users = _numbers(environment)
        self.before: Totals | None = None
        self.lost_workers = 0
        self._model = str(options.model)

    @property
    def model(self) -> str:
        """The model that is asked."""
        if not self._model:
            server = Server(self.url)
            self._model = json.loads(server.get("/v1/models", self.keys[0]))["data"][0]["id"]
            server.close()
        return self._model

    def totals(self) -> Totals | None:
        """What the server's metrics say now."""
        server = Server(self.url)
        try:
            return totals_of(server.get("/metrics", self.keys[0]), [self.model])
        except OSError:
            return None
        finally:
            server.close()


class Asker(User):
    """Asks one question after the other, each answer as a stream."""

    wait_time = constant(0)
    run_of_process: ClassVar[Run]

    def on_start(self) -> None:
        """Get a connection, a key and an order of questions of its own."""
        self.run_ = type(self).run_of_process
        number = next(self.run_.users)
        self.rng = random.Random(f"{self.run_.options.seed}:{number}")
        self.key = self.run_.keys[number % len(self.run_.keys)]
        self.server = Server(self.run_.url)

    def on_stop(self) -> None:
        """Close the connection."""
        self.server.close()

    @task
    def ask(self) -> None:
        """One answer, or one hang-up."""
        run = self.run_
        body = {
            "model": run.model,
            "messages": [{"role": "user", "content": self.rng.choice(run.questions)}],
            "temperature": run.options.temperature,
            "max_tokens": run.options.max_tokens,
            "seed": self.rng.getrandbits(31),
            "stream": True,
            "stream_options": {"include_usage": True},
        } | run.scenario.fields(self.rng)
        stay = run.scenario.chunks_before_hanging_up(self.rng)
        started = time.perf_counter()
        try:
            response = self.server.post(body, self.key)
            if response.status_code != 200:
                raise BrokenStreamError(f"{response.status_code}: {bytes(response.read()).decode()[:200]}")
            streamed = read_stream(lines_of(response, stay), started, time.perf_counter)
        except HungUpError:
            self.environment.stats.get(HANG_UPS, ROWS).log(round(1000 * (time.perf_counter() - started)), 0)
        except (BrokenStreamError, OSError, HTTPException) as error:
            self.server.reconnect()
            self._fire(1000 * (time.perf_counter() - started), exception=error)
            time.sleep(0.1)  # gevent's: a server that refuses all is not asked in a tight loop
        else:
            self._fire(streamed.whole)
            answered.fire(environment=self.environment, streamed=streamed)

    def _fire(self, milliseconds: float, exception: Exception | None = None) -> None:
        self.environment.events.request.fire(
            request_type="POST",
            name=PATH,
            response_time=milliseconds,
            response_length=0,
            exception=exception,
            context={},
        )


class Users(LoadTestShape):
    """How many users there are, as the scenario says; --users, --spawn-rate and --run-time are locust's."""

    use_common_options = True
    last_reports: ClassVar[LastReports | None] = None

    def tick(self) -> tuple[int, float] | None:
        """Users wanted now and how many may start a second; None ends the run."""
        options = Asker.run_of_process.options
        seconds, duration = self.get_run_time(), float(options.run_time or 0)
        users = int(options.num_users or 1)
        if duration and seconds >= duration:
            return None if self._over(seconds - duration) else (0, users)
        wanted = SCENARIOS[options.scenario].users(seconds, users, duration or 60)
        return wanted, float(options.spawn_rate or users)

    def _over(self, waited: float) -> bool:
        """Whether all answers are counted: a master first waits for the last reports of its workers."""
        if self.last_reports is None or self.runner is None:
            return True
        patience = (self.runner.environment.stop_timeout or 0) + REPORTING_SECONDS
        over = self.last_reports.have_come or waited > patience
        Asker.run_of_process.lost_workers = self.last_reports.missing if over else 0
        return over


@events.init.add_listener
def prepare(environment: Environment, **_: Any) -> None:
    """Check the options, let users start as the scenario says and finish their last answers."""
    try:
        run = Asker.run_of_process = Run(environment)
    except (OSError, ValueError) as error:
        sys.exit(f"loadtests: {error}")
    run.options.spawn_rate = run.options.spawn_rate or run.options.num_users  # locust would start one a second
    environment.stop_timeout = environment.stop_timeout or FINISHING_SECONDS
    if isinstance(environment.runner, WorkerRunner):
        mark_last_report(environment, environment.runner)
    elif isinstance(environment.runner, MasterRunner):
        Users.last_reports = LastReports(environment, environment.runner)


@events.init.add_listener
def add_charts(environment: Environment, **_: Any) -> None:
    """Serve charts of the answers at ``/answers``, beside locust's page."""
    if environment.web_ui is None:
        return

    def sums() -> Sums:
        rows = {name: environment.stats.get(name, ROWS) for name in (FIRST, GAP, TOKENS, STEPS)}
        return {name: (row.num_requests, row.total_response_time) for name, row in rows.items()}

    history = History(sums, rate=TOKENS)

    def look() -> None:
        while True:
            time.sleep(SECONDS)
            history.look()

    Thread(target=look, daemon=True).start()  # a greenlet: locust has patched threads
    pages = environment.web_ui.app
    assert pages is not None
    pages.add_url_rule("/answers", "answers", lambda: Response(PAGE.read_text(), mimetype="text/html"))
    pages.add_url_rule("/answers.json", "answers_json", lambda: jsonify(list(history.points)))


@events.test_start.add_listener
def begin(environment: Environment, **_: Any) -> None:
    """Take the options as they are now and, where the statistics are kept, the server's totals."""
    try:
        run = Asker.run_of_process = Run(environment)
    except (OSError, ValueError) as error:
        _give_up(environment, str(error))
        return
    if isinstance(environment.runner, WorkerRunner):
        return
    try:
        model = run.model
    except (OSError, ValueError, LookupError) as error:
        _give_up(environment, f"no server answers as it should at {run.url}: start one with `stepgrpo serve` ({error})")
        return
    run.before = run.totals()
    log.info("asking %s at %s, scenario %s", model, run.url, run.options.scenario)


def _give_up(environment: Environment, why: str) -> None:
    log.error(why)
    runner = environment.runner
    assert runner is not None
    if environment.web_ui:
        Thread(target=runner.stop, daemon=True).start()  # a greenlet; the page may start another run
    else:
        environment.process_exit_code = 1
        runner.quit()


@answered.add_listener
def count_answer(environment: Environment, streamed: Streamed, **_: Any) -> None:
    """A row of locust's statistics for each quantity; its totals hold requests alone."""
    for name, value in (
        (FIRST, round(streamed.first_token)),
        (GAP, None if streamed.between_tokens is None else round(1000 * streamed.between_tokens)),
        (TOKENS, streamed.tokens),
        (STEPS, streamed.steps),
    ):
        if value is not None:
            environment.stats.get(name, ROWS).log(value, 0)


@events.quitting.add_listener
def finish(environment: Environment, **_: Any) -> None:
    """Write the report and set the exit code."""
    run = Asker.run_of_process
    if isinstance(environment.runner, WorkerRunner) or environment.process_exit_code:
        return
    report = report_of(environment, run)
    if run.options.report:
        report.write(Path(run.options.report))
    print(report.markdown(), flush=True)
    environment.process_exit_code = 1 if report.verdicts() else 0


def report_of(environment: Environment, run: Run) -> LoadReport:
    """The report of what the statistics hold."""
    stats, options, runner = environment.stats, run.options, environment.runner
    failures = {str(error.error): error.occurrences for error in stats.errors.values()}
    for caught in runner.exceptions.values() if runner else ():  # defects of the load test: locust only logs them
        failures[f"in the load test: {caught['msg']}"] = int(caught["count"])
    after = run.totals() if run.before else None
    quantities = {
        "time to first token": _distribution(stats.get(FIRST, ROWS)),
        "time between tokens": _distribution(stats.get(GAP, ROWS), unit=1000),
        "latency": _distribution(stats.get(PATH, "POST")),
        "tokens per answer": _distribution(stats.get(TOKENS, ROWS)),
        "steps per answer": _distribution(stats.get(STEPS, ROWS)),
    }
    return LoadReport(
        scenario=options.scenario,
        users=int(options.num_users or 1),
        seconds=(stats.last_request_timestamp or 0) - stats.start_time,
        failures=failures,
        hang_ups=stats.get(HANG_UPS, ROWS).num_requests,
        lost_workers=run.lost_workers,
        quantities=quantities,
        server=after - run.before if after and run.before else None,
        thresholds=Thresholds(
            max_failures=options.max_failures,
            max_first_token_p95=_limit(options.max_ttft_p95),
            max_between_tokens_p95=_limit(options.max_itl_p95),
            max_latency_p95=_limit(options.max_latency_p95),
            min_answers_per_second=_limit(options.min_answers_per_second),
            exact_totals=options.exact_totals,
        ),
    )


def _distribution(entry: Any, unit: float = 1) -> Distribution:
    p50, p95, p99 = (entry.get_response_time_percentile(share) / unit for share in (0.5, 0.95, 0.99))
    return Distribution(
        entry.num_requests, entry.total_response_time / unit, p50, p95, p99, entry.max_response_time / unit
    )


def _limit(option: float | str | None) -> float | None:
    """A threshold; from locust's page it comes as text, empty where there is none."""
    return None if option in (None, "") else float(option)


def _numbers(environment: Environment) -> Iterator[int]:
    """Numbers for the users of this process, that no other worker's users have."""
    runner = environment.runner
    if not isinstance(runner, WorkerRunner):
        return count()
    assert environment.parsed_options is not None
    return count(runner.worker_index, max(environment.parsed_options.expect_workers, runner.worker_index + 1))


def _questions(path: Path) -> list[str]:
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"{path} holds no question: write one a line")
    return [str(json.loads(line)["question"]) if line.startswith("{") else line for line in lines]


def _keys(path: str) -> list[str]:
    if not path:
        raise ValueError("the scenario many-keys needs --keys-file, a file with one API key a line")
    keys = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    if not keys:
        raise ValueError(f"{path} holds no API key")
    return keys
