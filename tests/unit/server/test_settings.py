import pytest
import yaml
from typer.testing import CliRunner

from server import cli
from server.settings import InvalidSettingsError, ServerSettings, as_yaml, load_settings


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "settings.yaml"

    def write(text):
        path.write_text(text)
        return path

    return write


def test_flags_win_over_the_environment_and_the_environment_over_the_file(file, monkeypatch):
    path = file("port: 1\nhost: from-file\nmax_queue: 2\n")
    monkeypatch.setenv("STEPGRPO_PORT", "3")
    monkeypatch.setenv("STEPGRPO_HOST", "from-env")
    settings = load_settings({"port": "4"}, path)
    assert (settings.port, settings.host, settings.max_queue) == (4, "from-env", 2)
    assert settings.shadow_share == ServerSettings().shadow_share == 0


def test_an_empty_variable_is_none(monkeypatch):
    monkeypatch.setenv("STEPGRPO_SHADOW_URL", "")
    assert load_settings({}).shadow_url is None


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"port": "x"}, "port: Input should be a valid integer"),
        ({"shadow_share": 2}, "shadow_share: Input should be less than or equal to 1"),
        ({"log_format": "xml"}, "log_format: Input should be 'text' or 'json'"),
        ({"shadow_url": "http://base"}, "shadow_url needs shadow_model"),
    ],
)
def test_a_value_that_does_not_fit(given, says):
    with pytest.raises(InvalidSettingsError, match=says):
        load_settings(given)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("prot: 1", "has settings that do not exist: prot"),
        ("- 1", "is not a YAML file of settings"),
        ("port: [", "is not a YAML file of settings"),
        ("port: nine", "port: Input should be a valid integer"),
    ],
)
def test_a_file_that_cannot_be_used(file, text, says):
    with pytest.raises(InvalidSettingsError, match=says) as error:
        load_settings({}, file(text))
    assert "\n" not in str(error.value)


def test_a_file_that_is_missing(tmp_path):
    with pytest.raises(InvalidSettingsError, match="there is no settings file"):
        load_settings({}, tmp_path / "nope")


def test_the_printed_settings_are_a_settings_file(file):
    settings = load_settings({"port": 9, "log_requests": True})
    assert load_settings({}, file(as_yaml(settings))).model_dump() == settings.model_dump()


def test_print_config_shows_what_is_in_effect_and_no_secret(file, monkeypatch):
    monkeypatch.setenv("STEPGRPO_SHADOW_API_KEY", "secret-1")
    path = file("max_queue: 5\n")
    arguments = ["serve", "ckpt", "--settings", str(path), "--print-config", "--port", "9", "--no-log-requests"]
    vllm = ["--api-key", "secret-2", "secret-3", "--hf_token=secret-4", "--max-model-len", "64"]
    result = CliRunner().invoke(cli.app, [*arguments, *vllm])
    assert result.exit_code == 0
    printed = yaml.safe_load(result.output)
    assert (printed["checkpoint"], printed["port"], printed["max_queue"]) == ("ckpt", 9, 5)
    assert printed["shadow_api_key"] == "**********"
    assert "secret" not in result.output
    assert "# passed on to vLLM: --api-key ********** ********** --hf_token=********** --max-model-len 64" in (
        result.output
    )


def test_the_settings_file_may_be_named_by_the_environment(file, monkeypatch):
    monkeypatch.setenv("STEPGRPO_SETTINGS", str(file("port: 77\n")))
    assert "port: 77\n" in CliRunner().invoke(cli.app, ["serve", "--print-config"]).output


def test_every_setting_but_the_secret_ones_has_a_flag():
    output = CliRunner(env={"COLUMNS": "200"}).invoke(cli.app, ["serve", "--help"]).output
    for name in ServerSettings.model_fields.keys() - {"checkpoint", "shadow_api_key"}:
        assert f"--{name.replace('_', '-')} " in output
    assert "--shadow-api-key" not in output
