"""Which route a request is for."""

from starlette.types import Scope


def route_path(scope: Scope) -> str:
    """The path of a request below ``--root-path``, whether the proxy in front has taken that prefix off or not."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    below = path.removeprefix(root)
    return below if below.startswith("/") else path
