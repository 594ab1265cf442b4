import json
from pathlib import Path

from seeds_table import main, tables

REPORT = Path(__file__).resolve().parents[3] / "checkpoints" / "report" / "test" / "report.json"


def test_each_run_has_a_row_for_each_way_of_sampling():
    report = json.loads(REPORT.read_text())
    first, second = tables({"one": report, "two": report}).split("\n\n")
    ways = len(report["pairs"])
    assert len(first.splitlines()) == 2 + 2 * ways
    assert len(second.splitlines()) == 2 + 4 * ways
    for table in (first, second):
        assert len({line.count("|") for line in table.splitlines()}) == 1
    saved = next(iter(report["pairs"].values()))["comparison"]["savings_ratio"]["mean"]
    assert f"| one | {report['pairs']['greedy']['base']['accuracy']:.1%} |" in first
    assert f"{saved:.1%}" in first


def test_runs_are_named_by_their_folders(tmp_path, capsys):
    folder = tmp_path / "seed7"
    (folder / "report" / "test").mkdir(parents=True)
    (folder / "report" / "test" / "report.json").write_bytes(REPORT.read_bytes())
    main([str(folder)])
    assert "| seed7 |" in capsys.readouterr().out


def test_what_could_not_be_counted_is_a_dash():
    report = json.loads(REPORT.read_text())
    for pair in report["pairs"].values():
        pair["tuned"]["adaptivity"] = dict.fromkeys(("rank_correlation", "before", "at", "after"))
        pair["tuned"]["chain_checks"]["all"] = {"after_right": None, "after_wrong": None, "right": 0, "wrong": 0}
        pair["tuned"]["repairs"]["hidden"] = None
    assert "| tuned | - | - / - / - | - of 0 | - of 0 | - |" in tables({"one": report})
