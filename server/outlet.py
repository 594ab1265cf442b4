"""Where a response goes out: middlewares that stand side by side share one ``send``, instead of wrapping it in turn.

A stream sends a message for every token. Each wrapper would see all of them, though it waits only for the head.
"""

from collections.abc import Awaitable, Callable
from typing import Final, Self

from starlette.types import Message, Send

OUTLET: Final = "stepgrpo.outlet"
"""Where the scope holds the outermost outlet of the response."""

Watcher = Callable[[Message], Send | None]


class Outlet:
    """The ``send`` of one response.

    Args:
        send: to the client.
        parts: where the parts go that follow the head, if elsewhere.

    Attributes:
        head: of the response, once it is out; None before.
        ended: whether the response is out as a whole.
    """

    def __init__(self, send: Send, parts: Send | None = None) -> None:
        self._send = send
        self._send_part = parts or send
        self._elsewhere: Send | None = None
        self._watchers: list[Watcher] = []
        self._is_open = False
        self.head: Message | None = None
        self.ended = False

    @classmethod
    def at(cls, send: Send) -> "Outlet":
        """The outlet that a middleware was given as its ``send``, or a new one."""
        return send if isinstance(send, Outlet) else cls(send)

    def watch(self, watcher: Watcher) -> Self:
        """Show the head to a watcher on its way out: to the last one first, as the innermost middleware's.

        A watcher may change the head. Where it returns a ``send``, the response is diverted to that, and the watchers
        that are left see the head that comes when the outlet is released. Whose response it is does not matter: it may
        be the refusal of a middleware further out.
        """
        self._watchers.append(watcher)
        return self

    def divert(self, send: Send) -> None:
        """Send what comes next elsewhere, until the outlet is released."""
        self._elsewhere, self._is_open = send, False

    def release(self) -> None:
        """Send what comes next to the client again, whoever had diverted it: the innermost answer wins."""
        self._elsewhere, self._is_open = None, self.head is not None

    def __call__(self, message: Message) -> Awaitable[None]:
        """Send a message."""
        if not self._is_open:
            return self._begin(message)
        self.ended = not message.get("more_body", False)
        return self._send_part(message)

    def _begin(self, message: Message) -> Awaitable[None]:
        is_head = message["type"] == "http.response.start"
        while is_head and self._watchers and self._elsewhere is None:
            self._elsewhere = self._watchers.pop()(message)
        if self._elsewhere is not None:
            return self._elsewhere(message)
        if is_head:
            self.head, self._is_open = message, True
        return self._send(message)


async def nowhere(_: Message) -> None:
    """Send a message to nobody."""
