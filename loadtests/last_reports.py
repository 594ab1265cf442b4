"""The end of a distributed run: its statistics are whole once each worker has sent its last report.

A worker reports every few seconds, and a master that quits waits half a second for the last report. Users who finish
their last answers take longer, so the master first asks for no users, and quits when no worker has any left.
"""

from typing import Any, Final

from locust.env import Environment
from locust.runners import STATE_MISSING, MasterRunner, WorkerRunner

FIELD: Final = "last_report"


def mark_last_report(environment: Environment, runner: WorkerRunner) -> None:
    """On a worker: say in each report whether it is the last, for the run has ended and all users have finished."""
    ending = False

    def on_spawning_complete(user_count: int, **_: Any) -> None:
        nonlocal ending
        ending = user_count == 0

    def on_report(data: dict[str, Any], **_: Any) -> None:
        data[FIELD] = ending and runner.user_count == 0

    environment.events.spawning_complete.add_listener(on_spawning_complete)
    environment.events.report_to_master.add_listener(on_report)


class LastReports:
    """On a master: which workers have sent their last report."""

    def __init__(self, environment: Environment, runner: MasterRunner) -> None:
        self._workers = runner.clients
        self._last: dict[str, bool] = {}
        environment.events.worker_report.add_listener(self._note)

    def _note(self, client_id: str, data: dict[str, Any], **_: Any) -> None:
        self._last[client_id] = data.get(FIELD, False)

    @property
    def have_come(self) -> bool:
        """Whether all workers that are still there have sent theirs."""
        return all(self._last.get(worker.id) for worker in self._workers.all if worker.state != STATE_MISSING)

    @property
    def missing(self) -> int:
        """Workers that have reported before, but did not send theirs."""
        return sum(not last for last in self._last.values())
