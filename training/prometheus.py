"""The metrics of a run as Prometheus gauges."""

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


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
    """The callbacks that a ``--metrics-port`` asks for."""
    return [] if port is None else [PrometheusExporter(port)]
