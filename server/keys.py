"""API keys: who may ask, and how much. Read from a file, which may change while the server runs."""

import hashlib
import hmac
import logging
import os
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, TypeAdapter, ValidationError, model_validator

logger = logging.getLogger(__name__)

RELOAD_SECONDS: Final = 1.0
"""How long a change of the file may go unnoticed."""


class InvalidKeysError(Exception):
    """The file of keys cannot be used; the message is one line that says why and holds no key."""


class KeyEntry(BaseModel):
    """One entry of the file: a key, or the SHA-256 of one so that the file holds no secret, and its own limits."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    name: str = Field(pattern=r"^[\w.@-]{1,64}$")
    key: SecretStr | None = Field(default=None, min_length=8)
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    max_concurrent: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _check_secret(self) -> "KeyEntry":
        if (self.key is None) == (self.sha256 is None):
            raise ValueError("needs either key or sha256")
        return self


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key that may ask.

    Attributes:
        name: what it is called in logs; never the key itself.
        digest: SHA-256 of the key.
        max_concurrent: its own limit of requests in flight; None takes the server's.
        tokens_per_minute: its own limit of tokens; None takes the server's.
    """

    name: str
    digest: bytes
    max_concurrent: int | None = None
    tokens_per_minute: int | None = None


def digest_of(key: str) -> bytes:
    """SHA-256 of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


class Keyring:
    """The keys of a file, read again when it changes, and keys that were given as options.

    A file that has become unreadable leaves the keys as they were, and a line in the log.

    Args:
        file: YAML list of :class:`KeyEntry`.
        given: further keys, without limits of their own.
        clock: seconds, for tests.

    Raises:
        InvalidKeysError: the file cannot be used.
    """

    def __init__(
        self, file: Path | None, given: Sequence[str] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._file = file
        self._given = tuple(ApiKey(f"option-{i}", digest_of(key)) for i, key in enumerate(given, start=1))
        self._clock = clock
        self._checked = clock()
        self._version = _version(file)
        self._keys = self._given + _read(file)

    def find(self, presented: str) -> ApiKey | None:
        """The key that was presented, if it is one. Takes as long whichever it is, and if it is none."""
        self._reload()
        digest = digest_of(presented)
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found

    def _reload(self) -> None:
        now = self._clock()
        if self._file is None or now - self._checked < RELOAD_SECONDS:
            return
        self._checked = now
        version = _version(self._file)
        if version == self._version:
            return
        self._version = version
        try:
            self._keys = self._given + _read(self._file)
            logger.info("read %d API keys from %s", len(self._keys) - len(self._given), self._file)
        except InvalidKeysError as error:
            logger.error("the API keys stay as they were: %s", error)


def keyring_of(file: Path | None, arguments: Namespace) -> Keyring | None:
    """The keys of the file and those of vLLM's own options; None where there are neither.

    vLLM's keys are taken from it, because it asks for them on some of its routes only.

    Raises:
        InvalidKeysError: the file cannot be used.
    """
    variable = os.environ.pop("VLLM_API_KEY", "")
    given = [key for key in (arguments.api_key or [variable]) if key]
    arguments.api_key = None
    return Keyring(file, given) if file is not None or given else None


def _version(file: Path | None) -> object:
    """Changes when the file does, also when a link to it is turned, as in a mounted secret."""
    try:
        status = file.stat() if file is not None else None
    except OSError:
        return None
    return status and (status.st_mtime_ns, status.st_size, status.st_ino)


def _read(file: Path | None) -> tuple[ApiKey, ...]:
    if file is None:
        return ()
    try:
        entries = TypeAdapter(list[KeyEntry]).validate_python(yaml.safe_load(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise InvalidKeysError(f"{file} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError):
        raise InvalidKeysError(f"{file} is not a YAML file") from None
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidKeysError(f"{file}: {where or 'the file'}: {first['msg']}") from None
    keys = tuple(
        ApiKey(
            entry.name,
            digest_of(entry.key.get_secret_value()) if entry.key else bytes.fromhex(entry.sha256 or ""),
            entry.max_concurrent,
            entry.tokens_per_minute,
        )
        for entry in entries
    )
    if not keys:
        raise InvalidKeysError(f"{file} holds no keys, so nobody could ask")
    if len({key.name for key in keys}) < len(keys) or len({key.digest for key in keys}) < len(keys):
        raise InvalidKeysError(f"{file} has a name or a key twice")
    return keys
