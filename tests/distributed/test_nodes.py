"""Machines that come and go while a campaign is at work (G1 on two nodes)."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from caloray.atomic import sha256_file
from caloray.generation.plan import make_plan
from caloray.generation.run import generate
from caloray.generation.verify import verify_production
from caloray.io.manifest import Manifest

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.faults]
STUB = Path(__file__).parents[1] / "generation/stub_model.py"
N, SHARDS = 320, 40

DRIVER = """
    import importlib.util, json, os, signal, sys, time
    from pathlib import Path

    import ray
    from ray.cluster_utils import Cluster

    from caloray.distributed.actors import Pool, map_actors
    from caloray.generation.plan import make_plan
    from caloray.generation.run import produce
    from caloray.generation.shard import make_shard
    from caloray.interrupt import StopRequest

    program, folder = sys.argv[1], Path(sys.argv[2])

    def model():
        spec = importlib.util.spec_from_file_location("stub_model", program)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.StubModel()

    small = {"num_cpus": 1, "object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, connect=True, head_node_args=small)
    second = cluster.add_node(**small)
    cluster.wait_for_nodes()
    plan = make_plan(model(), 320, 7, blocks_per_shard=1)
    made, third = [], None

    def prepare():
        sampler = model()
        def make(index):
            time.sleep(0.5)
            receipt = make_shard(sampler, plan, index, folder)
            return receipt, ray.get_runtime_context().get_node_id(), os.getpid()
        return make

    def on_nodes(todo):
        global third
        # No worker may die but with its machine.
        pool = Pool(cpus=1, max_restarts=0, grows=True)
        stop = StopRequest()
        for receipt, node, worker in map_actors(prepare, todo, folder, pool, what="shards", stop=stop):
            made.append((receipt.index, node))
            if third is None and node == second.node_id:
                # A worker outlives its raylet for some seconds; on a machine that is gone nothing does.
                for lost in (second.all_processes["raylet"][0].process.pid, worker):
                    os.kill(lost, signal.SIGKILL)
                third = cluster.add_node(**small)
            yield receipt

    produce(plan, folder, on_nodes)
    found = {"made": made, "second": second.node_id, "third": third.node_id}
    Path(sys.argv[3]).write_text(json.dumps(found))  # Ray's processes write to stdout as well
    ray.shutdown()
    cluster.shutdown()
"""


def shards(directory: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in sorted(directory.glob("shards/*.parquet"))}


def test_a_lost_machine_leaves_no_trace_and_a_new_one_is_used(ray_home: Path, tmp_path: Path) -> None:
    """The raylet of a second machine is killed; a third one joins instead. Ids and bytes are the same."""
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(DRIVER), str(STUB), str(out), str(tmp_path / "found.json")],
        env={**os.environ, "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert sorted({index for index, _ in found["made"]}) == list(range(SHARDS))
    assert {found["second"], found["third"]} <= {node for _, node in found["made"]}
    assert "a node is gone" in done.stderr

    spec = importlib.util.spec_from_file_location("stub_model", STUB)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.StubModel()
    alone = generate(model, make_plan(model, N, 7, blocks_per_shard=1), tmp_path / "alone")
    assert Manifest.load(out).created["content_digest"] == alone.created["content_digest"]
    assert shards(out) == shards(tmp_path / "alone")
    checked = verify_production(out)  # every id exactly once, in order
    assert (checked.rows, checked.problems) == (N, ())
