"""Entry points of Ray jobs and the Slurm script: thin, and exit statuses pass through."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
JOBS = sorted((ROOT / "jobs").glob("*.py"))
SRUN = """\
#!/bin/bash
echo "$RAY_AUTH_MODE $*" >> srun.log
cp "$RAY_AUTH_TOKEN_PATH" token.seen
stat -c %a "$RAY_AUTH_TOKEN_PATH" > token.mode
trap 'sleep 0.2; touch told; exit 143' TERM
[ -z "${SRUN_EARLY:-}" ] || kill -TERM "$PPID"
touch started
for _ in $(seq ${SRUN_TENTHS:-0}); do sleep 0.1; done
exit ${SRUN_STATUS:-0}
"""


def test_there_is_one_for_every_step():
    assert [path.stem for path in JOBS] == ["evaluate", "generate", "ingest", "produce", "train", "tune"]


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_a_job_is_thin_and_calls_its_command(path):
    assert len(path.read_text().splitlines()) <= 30
    done = subprocess.run([sys.executable, path, "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert f"{path.stem} [OPTIONS]" in done.stdout
    wrong = subprocess.run([sys.executable, path, "--no-such-option"], capture_output=True, text=True)
    assert wrong.returncode == 2


@pytest.fixture
def slurm(tmp_path):
    """A folder that looks like a submitted job's, and the environment of its batch script."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", "#!/bin/bash\necho node1\nsleep 0.2\necho node2\n")):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    (tools / "python").symlink_to(sys.executable)
    activate = tmp_path / ".venv" / "bin" / "activate"
    activate.parent.mkdir(parents=True)
    activate.touch()
    return tmp_path, {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_NNODES": "2",
        "SLURM_CPUS_PER_TASK": "16",
        "SLURM_GPUS_ON_NODE": "1",
    }


def _submit(environment, *arguments):
    script = ROOT / "jobs" / "slurm" / "train.sbatch"
    return subprocess.Popen(["bash", script, *arguments], env=environment, stderr=subprocess.PIPE, text=True)


def test_slurm_starts_ray_with_a_private_token(slurm):
    folder, environment = slurm
    batch = _submit(environment, "configs/demo.yaml", "--set", "seed=2")
    assert batch.wait(timeout=120) == 0, batch.stderr.read()
    line = (folder / "srun.log").read_text()
    assert line.startswith("token ")
    assert "--address node1:24711 --min-nodes 2" in line
    assert "--num-cpus=16 --num-gpus=1 -- python jobs/train.py configs/demo.yaml --set seed=2" in line
    assert len((folder / "token.seen").read_text().strip()) == 64
    assert (folder / "token.mode").read_text().strip() == "600"
    assert not list((folder / ".ray").iterdir())
    batch.stderr.close()


def test_slurm_carries_out_another_job(slurm):
    folder, environment = slurm
    batch = _submit({**environment, "CALORAY_JOB": "tune"}, "configs/tune_demo.yaml")
    assert batch.wait(timeout=120) == 0, batch.stderr.read()
    assert "-- python jobs/tune.py configs/tune_demo.yaml" in (folder / "srun.log").read_text()
    batch.stderr.close()


def test_slurm_passes_a_failure_through(slurm):
    _, environment = slurm
    batch = _submit({**environment, "SRUN_STATUS": "65"}, "configs/demo.yaml")
    assert batch.wait(timeout=120) == 65
    batch.stderr.close()


def _sleeps(pid):
    """Whether a shell waits for what it has started, so that its traps are set."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def test_slurm_forwards_sigterm_and_waits_for_the_checkpoint(slurm):
    folder, environment = slurm
    batch = _submit({**environment, "SRUN_TENTHS": "300"}, "configs/demo.yaml")
    end = time.monotonic() + 60
    while not ((folder / "started").exists() and _sleeps(batch.pid)):
        assert time.monotonic() < end
        time.sleep(0.05)
    batch.send_signal(signal.SIGTERM)
    assert batch.wait(timeout=120) == 143
    assert not list((folder / ".ray").iterdir())
    batch.stderr.close()


def test_slurm_forwards_a_sigterm_that_comes_at_once(slurm):
    folder, environment = slurm
    batch = _submit({**environment, "SRUN_TENTHS": "300", "SRUN_EARLY": "yes"}, "configs/demo.yaml")
    assert batch.wait(timeout=120) == 143
    assert (folder / "told").exists()
    assert not list((folder / ".ray").iterdir())
    batch.stderr.close()


def test_slurm_wants_a_config(slurm):
    _, environment = slurm
    batch = _submit(environment)
    assert batch.wait(timeout=120) != 0
    assert "CONFIG" in batch.stderr.read()
    batch.stderr.close()
