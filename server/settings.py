"""Settings of the server: flags first, then ``STEPGRPO_*`` environment variables, then these defaults."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

BUNDLED = Path(__file__).resolve().parent.parent / "checkpoints" / "step-grpo"


class ServerSettings(BaseSettings):
    """What ``stepgrpo serve`` decides itself; every other option is vLLM's and is passed through unchanged."""

    model_config = SettingsConfigDict(env_prefix="STEPGRPO_", extra="ignore")

    checkpoint: str = str(BUNDLED)
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    served_model_name: str | None = None
    shutdown_timeout: int = Field(default=30, ge=0, description="Seconds that requests in flight get after SIGTERM.")

    @property
    def model_name(self) -> str:
        """The name clients ask for: the given one, else the checkpoint folder's."""
        return self.served_model_name or Path(self.checkpoint).name
