"""A study on a real Slurm: a controller and two nodes on this machine, of which one dies in the middle."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Clone, wait_for_runs, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("slurm")]
RATE = "recipes/fast.yaml:learning_rate"
DAEMONS = ("munged", "slurmctld", "slurmd")
# cred_expire is what a job of a lost node waits before it starts again
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SlurmdTimeout=10
ReturnToService=2
MpiDefault=none
MailProg=/bin/true
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2
NodeName=node2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class Cluster:
    """A controller and two nodes, each a daemon of this machine."""

    def __init__(self, folder: Path):
        self.folder, self._daemons = folder, []
        host, ports = socket.gethostname().partition(".")[0], free_ports(3)  # Slurm compares the short name
        conf = CONF.format(host=host, user=os.geteuid(), folder=folder, ports=ports)
        (folder / "slurm.conf").write_text(conf)
        (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")  # which needs no cgroup to write to
        (folder / "munge.key").write_bytes(secrets.token_bytes(128))
        (folder / "munge.key").chmod(0o400)
        (folder / "state").mkdir()

    def start(self) -> None:
        """Start all daemons, and wait until both nodes take jobs."""
        names = {
            "socket": "munge.socket",
            "key-file": "munge.key",
            "pid-file": "pid",
            "log-file": "log",
            "seed-file": "seed",
        }
        self._start(
            "munged", "--foreground", "--force", *(f"--{of}={self.folder / name}" for of, name in names.items())
        )
        self._wait_until((self.folder / "munge.socket").exists, "munged answers")
        self._start("slurmctld", "-D", "-c")
        for node in ("node1", "node2"):
            self._start("slurmd", "-D", "-N", node, SLURMD_NODENAME=node)  # also in what it starts: see kill_node
        self._wait_until(
            lambda: self.ask("sinfo", "-h", "-N", "-o", "%t").split() == ["idle", "idle"], "nodes are idle"
        )

    def _wait_until(self, reached: Callable[[], bool], what: str) -> None:
        """Wait for a state of the daemons, all of which run."""
        wait_until(lambda: reached() or any(of.poll() is not None for of in self._daemons), what, self.said, 120)
        assert reached(), f"a daemon has ended before {what}\n{self.said()}"

    def said(self) -> str:
        """Return what the nodes are, and the last lines that each daemon wrote."""
        logs = (f"{log.name}:\n" + "\n".join(log.read_text().splitlines()[-20:]) for log in self.folder.glob("*.log"))
        return "\n".join([self.ask("sinfo", "-N", "--long"), self.ask("squeue"), *logs])

    def _start(self, *command: str, **environment: str) -> None:
        log = (self.folder / f"{command[0]}.log").open("a")
        environment = {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf"), **environment}
        self._daemons.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True))

    def ask(self, *command: str) -> str:
        """Return what a command of Slurm's prints: nothing while the controller does not answer."""
        environment = {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}
        with contextlib.suppress(subprocess.TimeoutExpired):
            return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60).stdout
        return ""

    def running(self, node: str) -> list[str]:
        """Return the jobs that run on `node`."""
        return self.ask("squeue", "-h", "-r", "-t", "R", "-w", node, "-o", "%A").split()

    def kill_node(self, node: str) -> None:
        """Kill all that runs on `node` at once, as a power cut does: the daemon, its jobs, and what they started."""
        marks = {f"SLURMD_NODENAME={node}".encode(), f"SLURM_CONF={self.folder}/slurm.conf".encode()}

        def killed() -> list[int]:
            there = [process for process, variables in environments() if marks <= variables]
            for process in there:
                with contextlib.suppress(ProcessLookupError):  # it has ended
                    os.kill(process, signal.SIGKILL)
            return there

        wait_until(lambda: not killed(), f"nothing runs on {node}", killed, 60)

    def stop(self) -> None:
        """End all daemons and jobs."""
        for node in ("node1", "node2"):
            self.kill_node(node)
        for daemon in self._daemons:
            daemon.kill()
            daemon.wait(timeout=60)


def free_ports(count: int) -> list[int]:
    """Return ports of this machine that nobody uses."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [of.getsockname()[1] for of in sockets]
    for of in sockets:
        of.close()
    return ports


def environments() -> Iterator[tuple[int, set[bytes]]]:
    """Yield each process that has not ended, with its environment."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # another user's, or it has ended
            yield int(process.name), set((process / "environ").read_bytes().split(b"\0"))


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A running Slurm, which the commands of clones made from now on use."""
    if missing := [daemon for daemon in DAEMONS if shutil.which(daemon) is None]:
        pytest.skip(f"needs Slurm (no {', '.join(missing)}): apt-get install slurm-wlm")
    folder = tmp_path_factory.mktemp("slurm")
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    cluster = Cluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def test_a_study_survives_the_loss_of_a_job_and_of_a_node(measured: Clone, tmp_path: Path, cluster: Cluster) -> None:
    """One job is cancelled and one node killed: the study ends with all results, none twice, in this clone."""
    clone = measured.copy(tmp_path / "clone")
    grid = ("--name", "rate", "--seeds", "3", "-S", f"{RATE}=0.01,0.02")
    study = clone.start(sys.executable, "-m", "tools.study", "--on", "slurm", *grid, seconds=1800)
    wait_until(lambda: cluster.running("node1") and cluster.running("node2"), "both nodes have a job", cluster.said)
    cluster.ask("scancel", wait_until(lambda: cluster.running("node1"), "node1 has a job", cluster.said)[0])
    wait_until(lambda: cluster.running("node1"), "node1 has another job", cluster.said)
    cluster.kill_node("node2")
    wait_for_runs(study, clone, "rate", 6, cluster.said)
    wait_until(lambda: "down" in cluster.ask("sinfo", "-h", "-n", "node2", "-o", "%t"), "node2 is down", cluster.said)
    refs = clone.experiments("rate")
    names = [ref.split("/")[-1] for ref in refs]
    assert names == [f"rate-learning_rate={rate}-seed={seed}" for rate in (0.01, 0.02) for seed in (1, 2, 3)]
    assert clone.run("git", "status", "--porcelain").stdout == ""
    digests = {json.loads(clone.run("git", "show", f"{of}:metrics/train.json").stdout)["weights_sha256"] for of in refs}
    assert len(digests) == 6
    log = (clone.path / f".dvc/tmp/slurm/{names[0]}.log").read_text()
    assert "python -m stages.train" in log
    assert "python -m stages.download" not in log  # the data comes from the cache of the clone
    clone.run("dvc", "exp", "apply", names[0])
    assert clone.repro() == []


REFUSED = """
from stages.common.errors import StageError
from tools.planned import Planned
from tools.slurm import Slurm
try:
    Slurm("many", 1).submit([Planned(f"many-{seed}", ()) for seed in range(1002)])
except StageError as error:
    print(error)
"""


def test_what_slurm_refuses(measured: Clone, tmp_path: Path, cluster: Cluster) -> None:
    """More jobs than an array may have are submitted in parts; else, Slurm's own words say why it takes no job."""
    clone = measured.copy(tmp_path / "clone")
    submit = (sys.executable, "-c", REFUSED)
    assert "Invalid partition name" in (said := clone.run(*submit, PYTHONPATH=".", SBATCH_PARTITION="none").stdout)
    assert said.startswith("sbatch: ")
    assert said.endswith("; fix that, then type the same command again\n")
    assert clone.run(*submit, PYTHONPATH=".").stdout == ""
    assert len(cluster.ask("squeue", "-h", "-r").splitlines()) == 1001
    cluster.ask("scancel", "--user", str(os.geteuid()))


TRIALS = """
import json, optuna
from tools import search
from tools.planned import Planned
from tools.slurm import Slurm
study = optuna.create_study(pruner=optuna.pruners.ThresholdPruner(upper=0.0))  # stops each trial after one epoch
trials = [Planned(f"lr-trial={rate}", (f"recipes/fast.yaml:learning_rate={rate}",)) for rate in (0.01, -1)]
print(json.dumps([search.run(of, study.ask(), Slurm("lr", 1)) for of in trials]))
"""


def test_the_trials_of_a_search_are_jobs(measured: Clone, tmp_path: Path, cluster: Cluster) -> None:
    """What is to be stopped counts so, but has run to the end; what fails was submitted twice. The logs are here."""
    clone = measured.copy(tmp_path / "clone")
    (losses, stopped), failed = json.loads(clone.run(sys.executable, "-c", TRIALS, PYTHONPATH=".").stdout)
    assert (len(losses), stopped) == (1, True)
    assert failed == [[], False]
    (ref,) = clone.experiments("lr")
    assert ref.endswith("/lr-trial=0.01")
    logs = [(clone.path / f".dvc/tmp/slurm/lr-trial={rate}.log").read_text() for rate in (0.01, -1)]
    assert "epoch 2/2: " in logs[0]
    assert logs[1].count("learning_rate: got -1, expected greater than 0") == 2
    assert cluster.ask("squeue", "-h") == ""


def test_one_training_over_two_tasks(measured: Clone, tmp_path: Path, cluster: Cluster) -> None:
    """torchrun in two Slurm tasks, each on its node and in its clone: the bits of one process, by the docs' command."""
    clones = [measured.clone(tmp_path / f"clone{node}") for node in (0, 1)]
    (port,) = free_ports(1)
    script = (
        f'cd "{tmp_path}/clone$SLURM_NODEID" && dvc repro split && torchrun --nnodes 2 --node-rank "$SLURM_NODEID" '
        f"--master-addr 127.0.0.1 --master-port {port} --nproc-per-node 1 -m tools.repro"
    )
    clones[0].run("srun", "--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=1", "sh", "-c", script, seconds=900)
    assert clones[0].run("git", "status", "--porcelain").stdout == ""
    assert (clones[0].path / "models/model.pt").read_bytes() == (measured.path / "models/model.pt").read_bytes()
    assert not (clones[1].path / "models").exists()
