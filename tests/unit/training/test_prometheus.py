import socket
from types import SimpleNamespace
from urllib.request import urlopen

import pytest

from training.errors import TrainingError
from training.prometheus import PrometheusExporter, exporters


def test_what_is_logged_can_be_scraped():
    exporter = PrometheusExporter(0)
    state = SimpleNamespace(is_world_process_zero=True, global_step=7)
    exporter.on_train_begin(None, state, None)
    try:
        exporter.on_log(None, state, None, {"accuracy": 0.75, "exit_model": 0.5})
        text = urlopen(f"http://127.0.0.1:{exporter.port}/metrics").read().decode()
    finally:
        exporter.on_train_end(None, state, None)
    assert 'stepgrpo_training{metric="accuracy"} 0.75' in text
    assert "stepgrpo_training_step 7.0" in text


def test_no_port_no_exporter():
    assert exporters(None) == []


def test_a_port_that_is_taken_is_refused_before_a_run_begins():
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(TrainingError, match=f"--metrics-port {port}: .*in use; take another"):
            exporters(port)
