"""Settings of the server: flags first, then ``STEPGRPO_*`` environment variables, then these defaults."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

BUNDLED = Path(__file__).resolve().parent.parent / "checkpoints" / "step-grpo"


class ServerSettings(BaseSettings):
    """What ``stepgrpo serve`` decides itself; every other option is vLLM's and is passed through unchanged."""

    model_config = SettingsConfigDict(env_prefix="STEPGRPO_", extra="ignore")

    checkpoint: Path = BUNDLED
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
