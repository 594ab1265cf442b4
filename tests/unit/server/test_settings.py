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
    assert settings.request_timeout == ServerSettings().request_timeout == 3600


def test_an_empty_variable_is_none(monkeypatch):
    monkeypatch.setenv("STEPGRPO_COMPARE_URL", "")
    assert load_settings({}).compare_url is None


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"port": "x"}, "port: Input should be a valid integer"),
        ({"early_exit_threshold": 2}, "early_exit_threshold: Input should be less than or equal to 1"),
        ({"compare_url": "base"}, "compare_url: Input should be a valid URL"),
        ({"shadow_url": "http://me:secret@base"}, "shadow_url: URL must hold no user and password"),
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
    settings = load_settings({"port": 9, "max_queue": 7})
    assert load_settings({}, file(as_yaml(settings))).model_dump() == settings.model_dump()


def test_print_config_shows_what_is_in_effect_and_no_secret(file):
    path = file("max_queue: 5\n")
    arguments = ["serve", "ckpt", "--settings", str(path), "--print-config", "--port", "9"]
    vllm = ["--api-key", "secret-1", "secret-2", "--hf_token=secret-3", "--max-model-len", "64"]
    result = CliRunner().invoke(cli.app, [*arguments, *vllm])
    assert result.exit_code == 0
    printed = yaml.safe_load(result.output)
    assert (printed["checkpoint"], printed["port"], printed["max_queue"]) == ("ckpt", 9, 5)
    assert "secret" not in result.output
    assert "# passed on to vLLM: --api-key ********** ********** --hf_token=********** --max-model-len 64" in (
        result.output
    )


def test_the_settings_file_may_be_named_by_the_environment(file, monkeypatch):
    monkeypatch.setenv("STEPGRPO_SETTINGS", str(file("port: 77\n")))
    assert "port: 77\n" in CliRunner().invoke(cli.app, ["serve", "--print-config"]).output


def test_every_setting_has_a_flag():
    output = CliRunner(env={"COLUMNS": "200"}).invoke(cli.app, ["serve", "--help"]).output
    for name in ServerSettings.model_fields.keys() - {"checkpoint"}:
        assert f"--{name.replace('_', '-')} " in output


def test_a_secret_is_not_shown(monkeypatch):
    monkeypatch.setenv("STEPGRPO_SHADOW_API_KEY", "sk-very-secret")
    settings = load_settings({})
    assert settings.shadow_api_key.get_secret_value() == "sk-very-secret"
    assert "sk-very-secret" not in as_yaml(settings) + repr(settings)
