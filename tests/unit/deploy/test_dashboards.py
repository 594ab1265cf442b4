"""The committed dashboards are what the Python says, and every panel can be read without a manual."""

import json
import re
import subprocess
from pathlib import Path

import panel_queries
import pytest
import yaml
from dashboards.__main__ import FOLDER, documents
from programs import program
from prometheus_client import CollectorRegistry

from server.metrics import EfficiencyMetrics

DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
PANELS = [(name, panel) for name, dashboard in DASHBOARDS.items() for panel in dashboard["panels"]]
EXPRESSIONS = [(name, target["expr"]) for name, panel in PANELS for target in panel["targets"]]


def title(case):
    return case["title"] if isinstance(case, dict) else str(case)


def test_the_committed_files_are_up_to_date():
    assert {path.name: path.read_text() for path in FOLDER.glob("*.json")} == dict(documents()), "run: make dashboards"


def test_there_are_four_dashboards_with_links_to_each_other():
    assert set(DASHBOARDS) == {"tokens", "steps", "savings", "service"}
    assert all(dashboard["links"][0]["tags"] == dashboard["tags"] == ["stepgrpo"] for dashboard in DASHBOARDS.values())


@pytest.mark.parametrize("name", DASHBOARDS)
def test_the_viewer_chooses_model_and_instance(name):
    variables = {each["name"]: each for each in DASHBOARDS[name]["templating"]["list"]}
    assert {"model", "instance"} <= set(variables)
    assert all(variables[each]["allValue"] == ".*" for each in ("model", "instance"))


def test_the_viewer_sets_the_price():
    variables = {each["name"]: each for each in DASHBOARDS["savings"]["templating"]["list"]}
    assert variables["price"]["type"] == "textbox"
    assert any("$price" in query for name, query in EXPRESSIONS if name == "savings")


@pytest.mark.parametrize(("name", "panel"), PANELS, ids=title)
def test_every_panel_says_what_it_shows_and_in_which_unit(name, panel):
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    references = [target["refId"] for target in panel["targets"]]
    assert len(set(references)) == len(references) > 0


def test_panels_do_not_overlap():
    for dashboard in DASHBOARDS.values():
        cells = [
            (column, row)
            for place in (panel["gridPos"] for panel in dashboard["panels"])
            for column in range(place["x"], place["x"] + place["w"])
            for row in range(place["y"], place["y"] + place["h"])
        ]
        assert len(cells) == len(set(cells))


def test_every_family_of_ours_is_shown_and_exists():
    registry = CollectorRegistry()
    EfficiencyMetrics(registry)
    ours = {family.name for family in registry.collect()}
    shown = {
        re.sub("_(sum|count|bucket|total)$", "", name)
        for _, expression in EXPRESSIONS
        for name in re.findall(r"\bstepgrpo_\w+", expression)
    }
    assert shown == ours - {"stepgrpo_checkpoint_info", "stepgrpo_build_info"}


@pytest.mark.integration
def test_an_idle_engine_saves_no_time(tmp_path):
    """Of two engines, one is busy for five minutes of a day, and gives half of the base model's tokens."""
    (query,) = next(p.queries for p in panel_queries.panels("5m", 24 * 3600) if p.title == "GPU-seconds saved")
    series = {
        'vllm:num_requests_running{model_name="m", instance="a"}': "0x700 4x4 0x740",
        'vllm:num_requests_running{model_name="m", instance="b"}': "_x1000 0x440",
        'vllm:generation_tokens_total{model_name="m", instance="a"}': "0x700 100+100x4 500x740",
        'stepgrpo_actual_tokens_total{model_name="m", instance="a", source="calibrated"}': "0x700 100+100x4 500x740",
        'stepgrpo_baseline_tokens_total{model_name="m", instance="a", source="calibrated"}': "0x700 200+200x4 1000x740",
    }
    seconds = [{"labels": "{}", "value": 300}]
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [{"expr": f"round({query.expression}, 10)", "eval_time": "24h", "exp_samples": seconds}],
    }
    (tmp_path / "test.yml").write_text(json.dumps({"evaluation_interval": "1m", "tests": [test]}))
    command = [program("promtool", "Debian's package prometheus"), "test", "rules", tmp_path / "test.yml"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_grafana_finds_its_data_source_and_dashboards():
    provisioning = Path(FOLDER).parent / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    used = {target["datasource"]["uid"] for _, panel in PANELS for target in panel["targets"]}
    assert used == {source["uid"]}
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "stepgrpo.yml").read_text())["providers"]
    assert provider["options"]["path"] == "/etc/grafana/dashboards"
