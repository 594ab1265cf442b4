"""Prometheus's own tools accept the configuration and the rules, and every alert has a runbook."""

import subprocess
from pathlib import Path

import pytest
import yaml
from programs import program

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "deploy" / "prometheus"
RULE_TESTS = sorted(FOLDER.glob("tests/*.yml"))
ALERTS = [
    rule for group in yaml.safe_load((FOLDER / "rules" / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
ALERT_TESTS = yaml.safe_load((FOLDER / "tests" / "alerts.yml").read_text())["tests"]


def promtool(*arguments: str | Path) -> None:
    command = [program("promtool", "Debian's package prometheus"), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_configuration_is_valid():
    promtool("check", "config", FOLDER / "prometheus.yml")


def test_the_rules_are_valid():
    promtool("check", "rules", "--lint=all", "--lint-fatal", *sorted(FOLDER.glob("rules/*.yml")))


@pytest.mark.integration
@pytest.mark.parametrize("path", RULE_TESTS, ids=lambda path: path.stem)
def test_the_rules_do_what_their_tests_say(path):
    promtool("test", "rules", path)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_every_alert_is_provoked_in_a_rule_test(alert):
    fired = {case["alertname"] for test in ALERT_TESTS for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert alert["alert"] in fired


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_every_alert_has_a_severity_and_a_runbook_that_exists(alert):
    assert alert["labels"]["severity"] in {"warning", "critical"}
    file, anchor = alert["annotations"]["runbook"].split("#")
    assert anchor == alert["alert"].lower()
    assert f"### {alert['alert']}\n" in (ROOT / file).read_text()
