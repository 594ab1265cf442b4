"""The metrics of a run as Prometheus gauges."""

import socket

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from training.errors import TrainingError


class PrometheusExporter(TrainerCallback):  # type: ignore[misc]
    """Serves what the trainer logs as ``stepgrpo_training{metric="..."}``, and the step as ``stepgrpo_training_step``.

    Args:
        port: to listen on, from the main process; 0 takes a free one, which :attr:`port` then names.
    """

    def __init__(self, port: int) -> None:
        from prometheus_client import CollectorRegistry, Gauge

        self.port = port
        self._registry = CollectorRegistry()
        self._metrics = Gauge(
            "stepgrpo_training", "Latest value of a training metric.", ["metric"], registry=self._registry
        )
        self._step = Gauge("stepgrpo_training_step", "Optimiser updates so far.", registry=self._registry)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Start listening."""
        from prometheus_client import start_http_server

        if state.is_world_process_zero:
            self._server, self._thread = start_http_server(self.port, registry=self._registry)
            self.port = self._server.server_port

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: object,
    ) -> None:
        """Take over what was logged."""
        self._step.set(state.global_step)
        for name, value in (logs or {}).items():
            self._metrics.labels(metric=name).set(value)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Stop listening."""
        if state.is_world_process_zero:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()


def exporters(port: int | None) -> list[PrometheusExporter]:
    """The callbacks that a ``--metrics-port`` asks for.

    Raises:
        TrainingError: another program listens there, which is better known before a base is trained.
    """
    if port is None:
        return []
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("", port))
        except (OSError, OverflowError) as error:
            raise TrainingError(f"--metrics-port {port}: {error}; take another one") from error
    return [PrometheusExporter(port)]
