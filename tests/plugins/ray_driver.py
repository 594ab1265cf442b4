"""Serves the bundled checkpoint by two replicas under Ray until its input ends; the line ``kill`` kills one of them."""

import sys

import ray
import stepgrpo_ray
from ray import serve


def main(port: int) -> None:
    """Run the cluster, its proxy on ``port``."""
    ray.init(num_cpus=4, include_dashboard=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(stepgrpo_ray.targets({}), name=stepgrpo_ray.TARGETS, route_prefix="/targets")
    server = stepgrpo_ray.Server.options(num_replicas=2, ray_actor_options={"num_cpus": 1})
    serve.run(server.bind(options=["--enforce-eager"]), name="stepgrpo", route_prefix="/")
    print("READY", flush=True)
    for _ in sys.stdin:
        kill_a_replica()
        print("KILLED", flush=True)
    serve.shutdown()
    ray.shutdown()


def kill_a_replica() -> None:
    """End a replica's process at once, as a crash would."""
    actors = ray.util.list_named_actors(all_namespaces=True)
    replica = next(each for each in actors if "#Server#" in each["name"])
    ray.kill(ray.get_actor(**replica))


if __name__ == "__main__":
    main(int(sys.argv[1]))
