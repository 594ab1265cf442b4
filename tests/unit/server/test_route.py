import pytest

from server.route import route_path


@pytest.mark.parametrize(
    ("root", "path", "route"),
    [
        ("", "/v1/models", "/v1/models"),
        ("/api", "/api/v1/models", "/v1/models"),
        ("/api", "/v1/models", "/v1/models"),
        ("/api", "/apis/v1", "/apis/v1"),
        ("/api", "/api", "/api"),
    ],
)
def test_the_route_is_what_stands_below_the_root_path_wherever_the_proxy_leaves_it(root, path, route):
    assert route_path({"path": path, "root_path": root}) == route


def test_most_servers_know_of_no_root_path():
    assert route_path({"path": "/health"}) == "/health"
