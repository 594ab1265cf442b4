"""A client that seems to have left, as far as the app knows, so that a middleware can answer in the app's place."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.outlet import Outlet, nowhere


class Departure:
    """One request that may be taken away from the app.

    Attributes:
        outlet: of the response.
        left: whether the request was taken away; what the app still sent or raised went nowhere.
    """

    def __init__(self, send: Send) -> None:
        self.outlet = Outlet.at(send)
        self.left = False

    def leave(self) -> Message:
        """Take the request away; the message is what the app has to receive."""
        self.left = True
        self.outlet.divert(nowhere)
        return {"type": "http.disconnect"}

    async def run(self, app: ASGIApp, scope: Scope, receive: Receive) -> None:
        """Run the app until it has answered or given up; from then on the outlet is open again."""
        try:
            await app(scope, receive, self.outlet)
        except Exception:
            if not self.left:
                raise
        if self.left:
            self.outlet.release()
