"""Serves the bundled checkpoint by two replicas under Ray until its input ends.

A line of input names a deployment, to kill one of its replicas.
"""

import contextlib
import sys
from typing import TextIO

import ray
import stepgrpo_ray
from ray import serve


def main(port: int) -> None:
    """Run the cluster, its proxy on ``port``; what its processes print goes to our standard error."""
    says = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        run(port, says)


def run(port: int, says: TextIO) -> None:
    """Run the cluster, and say when it is ready and when a replica was killed."""
    ray.init(num_cpus=4, include_dashboard=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(stepgrpo_ray.targets({}), name=stepgrpo_ray.TARGETS, route_prefix="/targets")
    server = stepgrpo_ray.Server.options(num_replicas=2, ray_actor_options={"num_cpus": 1})
    serve.run(server.bind(options=["--enforce-eager"]), name="stepgrpo", route_prefix="/")
    print("READY", file=says, flush=True)
    for line in sys.stdin:
        kill_a_replica(line.strip())
        print("KILLED", file=says, flush=True)
    serve.shutdown()
    ray.shutdown()


def kill_a_replica(deployment: str) -> None:
    """End a replica's process at once, as a crash would."""
    actors = ray.util.list_named_actors(all_namespaces=True)
    replica = next(each for each in actors if f"#{deployment}#" in each["name"])
    ray.kill(ray.get_actor(**replica))


if __name__ == "__main__":
    main(int(sys.argv[1]))
