"""A client that seems to have left, as far as the app knows, so that a middleware can answer in the app's place."""

from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Departure:
    """One request that may be taken away from the app.

    Attributes:
        left: whether it was; what the app still sends or raises goes nowhere.
        start: the head of the app's response, if it was sent before.
        ended: whether the app's response was complete before.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self.left = False
        self.start: Message | None = None
        self.ended = False

    def leave(self) -> Message:
        """Take the request away; the message is what the app has to receive."""
        self.left = True
        return {"type": "http.disconnect"}

    async def run(self, app: ASGIApp, scope: Scope, receive: Receive) -> None:
        """Run the app until it has answered or given up."""
        try:
            await app(scope, receive, self._forward)
        except Exception:
            if not self.left:
                raise

    def _forward(self, message: Message) -> Awaitable[None]:
        if self.left:
            return _nowhere()
        if message["type"] == "http.response.start":
            self.start = message
        else:
            self.ended = not message.get("more_body", False)
        return self._send(message)


async def _nowhere() -> None:
    """Where the messages of an app go whose client is gone."""
