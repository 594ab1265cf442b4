"""The web page at ``/``: static files, and the headers that keep it to itself."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Response
from pydantic import BaseModel, HttpUrl

from reasoning import DEFAULT_MARKERS

FOLDER: Final = Path(__file__).with_name("web")
MEDIA_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
HEADERS: Final = {
    "Cache-Control": "no-cache",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

PAGE: Final = "/web/page.json"
ASSETS: Final = {f"/web/{file.name}": file for file in sorted(FOLDER.iterdir()) if file.suffix in MEDIA_TYPES}
PATHS: Final = frozenset({"/", PAGE, *ASSETS})
"""Every path of the page. They hold no secret, so that the page can open and ask for an API key."""


class WebPage(BaseModel):
    """What the page has to know before it asks anything.

    Attributes:
        markers: what opens a step.
        compare_url: a second server to put side by side with this one.
    """

    markers: Sequence[str] = DEFAULT_MARKERS
    compare_url: HttpUrl | None = None


def web_routes(page: WebPage) -> APIRouter:
    """The page and its files."""
    router = APIRouter(include_in_schema=False)
    index = _file(FOLDER / "index.html", {"Content-Security-Policy": content_security_policy(page.compare_url)})
    router.add_api_route("/", index, methods=["GET", "HEAD"])
    for path, file in ASSETS.items():
        router.add_api_route(path, _file(file), methods=["GET", "HEAD"])

    @router.get(PAGE)
    async def page_json(response: Response) -> WebPage:
        response.headers.update(HEADERS)
        return page

    return router


def content_security_policy(compare_url: HttpUrl | None = None) -> str:
    """Own files only, requests to this server and the compared one, and no markup made by scripts."""
    compared = f" {compare_url.scheme}://{compare_url.host}:{compare_url.port}" if compare_url else ""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
        f" connect-src 'self'{compared}; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
        " require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _file(path: Path, more: dict[str, str] | None = None) -> Callable[[], Awaitable[Response]]:
    """An endpoint that answers with a file, read once."""
    body, media_type, headers = path.read_bytes(), MEDIA_TYPES.get(path.suffix, "text/html"), HEADERS | (more or {})

    async def answer() -> Response:
        return Response(body, media_type=media_type, headers=headers)

    return answer
