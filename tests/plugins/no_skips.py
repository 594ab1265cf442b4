"""With CI set, a test that is skipped fails: .ci/programs brings what is missing. What needs a GPU or root may skip."""

import os
from collections.abc import Generator
from typing import Any

import pytest

ALLOWED = ("needs a GPU", "needs root")
"""How the reasons of skips that CI accepts begin."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        *_, reason = report.longrepr
        reason = reason.removeprefix("Skipped: ")
        if not reason.startswith(ALLOWED):
            report.outcome, report.longrepr = "failed", f"skipped, which CI does not accept: {reason}"
    return report
