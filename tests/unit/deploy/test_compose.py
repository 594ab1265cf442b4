"""``docker compose`` resolves every profile, and what it would start is closed by default."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from programs import compose

from server.app import SHUTDOWN_SECONDS
from server.connection import LAST_SECONDS
from server.settings import load_settings

ROOT = Path(__file__).resolve().parents[3]
PROFILES = {
    "": {"server"},
    "gpu": {"server-gpu"},
    "load": {"server", "locust"},
    "load-gpu": {"server-gpu", "locust-gpu"},
}
ALWAYS = {"prometheus", "grafana"}


def resolved(*options, **variables):
    names = ("COMPOSE_PROFILES", "BIND", "PORT", "MODEL", "GPUS", "API_KEYS_FILE", "STEPGRPO_API_KEY")
    environment = {name: value for name, value in os.environ.items() if name not in names} | variables
    command = [*compose(), "--project-directory", str(ROOT), *options, "config", "--format", "json"]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_starts_its_services(profile):
    project = resolved(*(("--profile", profile) if profile else ()))
    assert set(project["services"]) == PROFILES[profile] | ALWAYS


@pytest.fixture(scope="module", params=[profile for profile in PROFILES if "load" in profile])
def services(request):
    return resolved("--profile", request.param)["services"]


def test_nothing_runs_as_root_or_writes_to_its_image(services):
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert dockerfile.count("\nUSER 10001:10001\n") == dockerfile.count("\nENTRYPOINT ") == 3
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "build" in service or not service["user"].startswith("0")
        assert not service.get("privileged")


def test_every_service_has_limits_and_a_health_check(services):
    for name, service in services.items():
        assert service["deploy"]["resources"]["limits"]["memory"], name
        assert "healthcheck" in service or "build" in service, "an image of ours brings its own"


def test_the_default_needs_no_more_than_two_cores():
    """Docker refuses a container that may use more of them than the machine has."""
    services = resolved("--profile", "load")["services"]
    assert all(float(service["deploy"]["resources"]["limits"]["cpus"]) <= 2 for service in services.values())


def test_a_server_has_longer_to_end_than_it_takes(services):
    (server,) = [service for name, service in services.items() if name.startswith("server")]
    assert server["stop_grace_period"] == "1m0s"
    assert SHUTDOWN_SECONDS + LAST_SECONDS < 60


def test_ports_are_open_to_this_machine_only_unless_asked(services):
    assert all(port["host_ip"] == "127.0.0.1" for service in services.values() for port in service["ports"])
    asked = resolved("--profile", "load", BIND="0.0.0.0", PORT="9000")["services"]
    opened = {
        name: port["published"]
        for name, each in asked.items()
        for port in each["ports"]
        if port["host_ip"] == "0.0.0.0"
    }
    assert opened == {"server": "9000"}, "what needs no login stays where it is"


def test_versions_are_pinned(services):
    for service in services.values():
        tag = service["image"].partition(":")[2]
        assert tag
        assert tag[0].isdigit() or tag[0] == "v"


def test_what_is_mounted_from_the_clone_exists_and_is_read_only(services):
    for service in services.values():
        for volume in service.get("volumes", []):
            if volume["type"] == "bind":
                assert volume["read_only"]
                assert Path(volume["source"]).exists(), volume


def test_no_service_is_given_a_secret_unless_asked(services):
    given = {
        name.lower(): value for each in services.values() for name, value in (each.get("environment") or {}).items()
    }
    assert not [name for name, value in given.items() if value and re.search("password|token|key", name)]


@pytest.mark.parametrize("profile", ["load", "load-gpu"])
def test_a_file_of_keys_is_for_the_server_and_one_key_for_the_load(tmp_path, profile):
    keys = tmp_path / "keys.yaml"
    keys.write_text("- {name: load, key: sk-load}\n")
    services = resolved("--profile", profile, API_KEYS_FILE=str(keys), STEPGRPO_API_KEY="sk-load")["services"]
    for name, service in services.items():
        given = service.get("environment") or {}
        mounted = [volume["target"] for volume in service.get("volumes", []) if volume.get("source") == str(keys)]
        assert mounted == ([given["STEPGRPO_API_KEYS_FILE"]] if name.startswith("server") else []), name
        assert given.get("STEPGRPO_API_KEY") == ("sk-load" if name.startswith("locust") else None), name


def test_without_a_file_of_keys_the_variable_is_empty_which_the_server_takes_for_unset(services, monkeypatch):
    (server,) = [service for name, service in services.items() if name.startswith("server")]
    monkeypatch.setenv("STEPGRPO_API_KEYS_FILE", server["environment"]["STEPGRPO_API_KEYS_FILE"])
    assert load_settings({}).api_keys_file is None


def test_the_load_waits_for_a_server_that_is_ready(services):
    (load,) = [service for name, service in services.items() if name.startswith("locust")]
    (needed,) = load["depends_on"].values()
    assert needed["condition"] == "service_healthy"
    assert services["grafana"]["depends_on"]["prometheus"]["condition"] == "service_healthy"


def test_the_gpu_server_gets_the_model_that_is_named_and_the_gpus(tmp_path):
    service = resolved("--profile", "gpu", MODEL=str(tmp_path))["services"]["server-gpu"]
    (checkpoint,) = [volume for volume in service["volumes"] if volume["target"] == "/checkpoint"]
    assert checkpoint["source"] == str(tmp_path)
    assert service["environment"]["STEPGRPO_CHECKPOINT"] == "/checkpoint"
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


def test_prometheus_scrapes_the_name_that_every_server_has(services):
    target = "stepgrpo:8000"
    assert target in (ROOT / "deploy" / "prometheus" / "targets.yml").read_text()
    (server,) = [service for name, service in services.items() if name.startswith("server")]
    assert server["networks"]["default"]["aliases"] == [target.partition(":")[0]]
