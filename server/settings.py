"""Settings of the server: flags first, then ``STEPGRPO_*`` environment variables, then a YAML file, then defaults."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import Field, HttpUrl, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    YamlConfigSettingsSource,
)

from server.log import LogFormat

BUNDLED = Path(__file__).resolve().parent.parent / "checkpoints" / "step-grpo"
FILE_VARIABLE: Final = "STEPGRPO_SETTINGS"
"""Environment variable with the path of the settings file."""


class InvalidSettingsError(Exception):
    """The settings cannot be used; the message is one line that says which and why."""


class ServerSettings(BaseSettings):
    """What ``stepgrpo serve`` decides itself; every other option is vLLM's and is passed through unchanged."""

    model_config = SettingsConfigDict(env_prefix="STEPGRPO_", env_ignore_empty=True, extra="ignore")

    checkpoint: Path = Field(BUNDLED, description="Checkpoint folder.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=1, le=65535, description="Port to listen on.")
    compare_url: HttpUrl | None = Field(
        None, description="Another OpenAI-compatible server that the web page shows side by side with this one."
    )

    log_format: LogFormat = Field("text", description="text, or json: one object a line, and a line for each request.")

    api_keys_file: Path | None = Field(
        None, description="YAML file of API keys, read again when it changes. Without it anyone may ask."
    )
    key_max_concurrent: int | None = Field(
        None, ge=1, description="Requests that one API key may have in flight. Without keys: all clients together."
    )
    key_tokens_per_minute: int | None = Field(
        None, ge=1, description="Prompt and completion tokens that one API key may use in a minute."
    )
    max_queue: int = Field(1024, ge=1, description="Requests in the engine, above which new ones are refused.")
    max_body_bytes: int = Field(32 * 1024**2, ge=1, description="Largest request body.")
    max_header_bytes: int = Field(64 * 1024, ge=1024, description="Largest request line and headers.")
    client_timeout: float = Field(
        60, gt=0, description="Seconds that a client may take for its headers, or to read on where it has stopped."
    )
    request_timeout: float = Field(3600, gt=0, description="Seconds after which a request is given up.")

    shadow_url: HttpUrl | None = Field(
        None, description="OpenAI-compatible server of the base model, where a share of the requests is asked again."
    )
    shadow_model: str | None = Field(None, description="Its name there; otherwise the first one that is served there.")
    shadow_api_key: SecretStr | None = Field(None, description="API key for it.")
    shadow_share: float = Field(0.01, ge=0, le=1, description="Share of the finished requests that is asked again.")
    shadow_seed: int = Field(0, description="Of the draw of that share.")
    shadow_per_minute: int = Field(30, ge=1, description="Most requests that are asked again in a minute.")
    shadow_max_busy: int = Field(8, ge=0, description="Requests in the engine, above which none is asked again.")

    reasoning_content: bool = Field(
        False, description="Send the thinking as reasoning_content, too, for clients that know the older name."
    )

    max_reasoning_steps: int | None = Field(None, ge=1, description="Reasoning steps of requests that do not say.")
    max_reasoning_steps_cap: int | None = Field(None, ge=1, description="Most reasoning steps of any request.")
    thinking_token_budget: int | None = Field(None, ge=0, description="Thinking tokens of requests that do not say.")
    thinking_token_budget_cap: int | None = Field(None, ge=0, description="Most thinking tokens of any request.")
    early_exit_threshold: float | None = Field(
        None, ge=0, le=1, description="Confidence above which requests that do not say leave their thinking."
    )
    early_exit_threshold_cap: float | None = Field(
        None, ge=0, le=1, description="Confidence above which any request leaves its thinking."
    )

    @field_validator("compare_url", "shadow_url")
    @classmethod
    def _without_secrets(cls, url: HttpUrl | None) -> HttpUrl | None:
        """URLs are printed, and the page's is sent to browsers."""
        if url is not None and (url.username or url.password):
            raise ValueError("URL must hold no user and password; a key belongs in shadow_api_key")
        return url


def load_settings(given: Mapping[str, Any], file: Path | None = None) -> ServerSettings:
    """The settings in effect.

    Args:
        given: values of flags, by the names of the fields.
        file: YAML file with fields of :class:`ServerSettings`.

    Raises:
        InvalidSettingsError: a value does not fit, or the file cannot be read or has a field that does not exist.
    """

    class Settings(ServerSettings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, _file_source(settings_cls, file)

    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        message = first["msg"].removeprefix("Value error, ")
        raise InvalidSettingsError(f"{where}: {message}" if where else message) from error
    except SettingsError as error:
        raise InvalidSettingsError(str(error)) from error


def _file_source(settings_cls: type[BaseSettings], file: Path | None) -> YamlConfigSettingsSource:
    if file is not None and not file.is_file():
        raise InvalidSettingsError(f"there is no settings file {file}")
    try:
        source = YamlConfigSettingsSource(settings_cls, file)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError, TypeError, AttributeError) as error:
        raise InvalidSettingsError(f"{file} is not a YAML file of settings: {' '.join(str(error).split())}") from error
    unknown = sorted(map(str, source.yaml_data.keys() - ServerSettings.model_fields.keys()))
    if unknown:
        raise InvalidSettingsError(f"{file} has settings that do not exist: {', '.join(unknown)}")
    return source


def as_yaml(settings: ServerSettings) -> str:
    """The settings as a settings file holds them."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
