import pytest
from pydantic import HttpUrl

from server.app import readiness, vllm_defaults
from server.checkpoint import ServedCheckpoint
from server.settings import ServerSettings

TEMPLATE = "{{ message.content.split('</think>')[-1] }}"


@pytest.fixture
def defaults(tmp_path):
    def of(*, card=None, template=TEMPLATE, dtype=""):
        return vllm_defaults(ServerSettings(port=9), ServedCheckpoint(tmp_path / "tuned", card, template, dtype))

    return of


def test_the_checkpoint_is_served_under_its_folders_name(defaults, tmp_path):
    assert defaults()["model"] == str(tmp_path / "tuned")
    assert defaults()["served_model_name"] == ["tuned"]
    assert (defaults()["host"], defaults()["port"]) == ("127.0.0.1", 9)


def test_requests_in_flight_may_finish(defaults):
    assert defaults()["shutdown_timeout"] == 30


def test_thinking_is_split_off_for_models_that_think(defaults, card):
    assert defaults()["reasoning_parser"] == "qwen3"
    assert defaults(card=card())["reasoning_parser"] == "qwen3"
    assert defaults(template="{{ message.content }}")["reasoning_parser"] == ""
    other = card(think={"start": "[THINK]", "end": "[/THINK]"})
    assert defaults(card=other, template="[/THINK]")["reasoning_parser"] == ""


@pytest.mark.parametrize(("dtype", "served"), [("float32", "float32"), ("bfloat16", "auto"), ("", "auto")])
def test_full_precision_is_kept(defaults, dtype, served):
    assert defaults(dtype=dtype)["dtype"] == served


def test_the_start_ends_with_what_is_served_where_and_the_savings_that_are_known(tmp_path, card):
    said = readiness("tuned", "http://127.0.0.1:9", ServedCheckpoint(tmp_path, card()))
    assert said.splitlines() == [
        "ready: model tuned, savings calibrated",
        "  page     http://127.0.0.1:9/",
        "  API      http://127.0.0.1:9/v1",
        "  metrics  http://127.0.0.1:9/metrics",
    ]
    assert "savings unknown" in readiness("tuned", "http://127.0.0.1:9", ServedCheckpoint(tmp_path, None))


@pytest.mark.parametrize(
    ("calibrated", "known"), [(True, "calibrated and shadow requests"), (False, "shadow requests")]
)
def test_the_start_names_the_server_of_the_shadow_requests(tmp_path, card, calibrated, known):
    checkpoint = ServedCheckpoint(tmp_path, card() if calibrated else None)
    said = readiness("tuned", "http://127.0.0.1:9", checkpoint, HttpUrl("http://base:8001/v1"))
    assert f"savings {known} to http://base:8001/v1\n" in said
