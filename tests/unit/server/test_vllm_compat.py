import logging
import multiprocessing
import signal
import time

import pytest

from server import vllm_compat


class ExitError(Exception):
    """Instead of the end of the tests."""


def stubborn():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)


@pytest.mark.parametrize("target", [time.sleep, stubborn])
def test_a_start_that_is_ended_leaves_nothing_behind(monkeypatch, target):
    def leave(code):
        raise ExitError(code)

    monkeypatch.setattr("os._exit", leave)
    monkeypatch.setattr(vllm_compat, "ABANDON_SECONDS", 0.5)
    child = multiprocessing.get_context("fork").Process(target=target, args=(60,) if target is time.sleep else ())
    child.start()
    time.sleep(0.1)
    with pytest.raises(ExitError, match="143"):
        vllm_compat._abandon_start(signal.SIGTERM, None)
    child.join(5)
    assert child.exitcode in (-signal.SIGTERM, -signal.SIGKILL)


@pytest.mark.parametrize(("plugins", "news"), [(["stepgrpo"], False), (["stepgrpo", "other"], True)])
def test_vllm_need_not_warn_of_our_own_plugin(plugins, news):
    record = logging.LogRecord("vllm.plugins", logging.WARNING, "", 0, "Found plugin(s) %s", (plugins,), None)
    assert vllm_compat._is_news(record) is news
