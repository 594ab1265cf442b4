import logging
import multiprocessing
import signal
import time

import pytest

from server import vllm_compat


class ExitError(Exception):
    """Instead of the end of the tests."""


def child(answer: signal.Handlers):
    signal.signal(signal.SIGTERM, answer)
    time.sleep(60)


@pytest.mark.parametrize("answer", [signal.SIG_DFL, signal.SIG_IGN])
def test_a_start_that_is_ended_leaves_nothing_behind(monkeypatch, answer):
    def leave(code):
        raise ExitError(code)

    process = multiprocessing.get_context("fork").Process(target=child, args=(answer,))
    process.start()
    time.sleep(0.1)
    monkeypatch.setattr("os._exit", leave)
    monkeypatch.setattr(vllm_compat, "ABANDON_SECONDS", 0.5)
    with pytest.raises(ExitError, match="143"):
        vllm_compat._abandon_start(signal.SIGTERM, None)
    process.join(5)
    assert process.exitcode in (-signal.SIGTERM, -signal.SIGKILL)


@pytest.mark.parametrize(("plugins", "news"), [(["stepgrpo"], False), (["stepgrpo", "other"], True)])
def test_vllm_need_not_warn_of_our_own_plugin(plugins, news):
    record = logging.LogRecord("vllm.plugins", logging.WARNING, "", 0, "Found plugin(s) %s", (plugins,), None)
    assert vllm_compat._is_news(record) is news
