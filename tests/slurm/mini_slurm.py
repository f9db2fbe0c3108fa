"""A real Slurm on one machine: a controller and two nodes with two pretend GPUs each, on 127.0.0.1.

``python -m tests.slurm.mini_slurm FOLDER`` starts one by hand, prints what to export, and stops it at Ctrl-C.
Needs Debian's slurmctld, slurmd, slurm-client and munge; neither root nor systemd.
"""

import contextlib
import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PROGRAMS = ("munged", "munge", "unmunge", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue")
NODES = ("node1", "node2")
CPUS, MEMORY_MB = 4, 64000
SEARCH = f"{os.environ['PATH']}:/usr/sbin:/sbin"

SLURM_CONF = """
ClusterName=mini
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
JobAcctGatherParams=OverMemoryKill
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_min_interval=100000,batch_sched_delay=0
MinJobAge=600
KillWait=2
CompleteWait=0
SlurmctldTimeout=30
SlurmdTimeout=10
InactiveLimit=0
Waittime=0
ReturnToService=2
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
JobRequeue=1
MailProg=/bin/true
GresTypes=gpu
{nodes}
PartitionName=main Nodes={names} Default=YES MaxTime=INFINITE DefMemPerCPU=200 State=UP
PartitionName=gpu Nodes={names} MaxTime=INFINITE DefMemPerCPU=200 State=UP
AccountingStorageType=accounting_storage/none
"""


def missing_programs() -> list[str]:
    """Return the programs of Slurm and munge that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=SEARCH) is None]


class MiniSlurm:
    """The cluster; a context manager that leaves no daemon behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.daemons: dict[str, subprocess.Popen] = {}
        self.environment = os.environ | {
            "SLURM_CONF": f"{self.folder}/etc/slurm.conf",
            "PATH": f"{self.folder}/bin:{SEARCH}",
        }

    def __enter__(self) -> "MiniSlurm":
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Write the configuration, start all daemons and wait for two idle nodes."""
        self._write_files()
        munge, run = self.folder / "munge", self.folder / "run"
        self._spawn(
            "munged", "--foreground", "--num-threads=2", f"--key-file={munge}/key",
            f"--socket={munge}/socket", f"--seed-file={munge}/seed", f"--pid-file={run}/munged.pid",
            f"--log-file={self.folder}/log/munged.log",
        )  # fmt: skip
        self._wait(f"munge -n --socket={munge}/socket | unmunge --socket={munge}/socket")
        self._spawn("slurmctld", "-D", "-i")
        self._wait("scontrol ping | grep -q UP")
        for node in NODES:
            self.start_node(node)
        self._wait("test $(sinfo -h -N -p main -t idle | wc -l) = 2")

    def _write_files(self) -> None:
        for name in ("etc", "bin", "munge", "state", "spool", "run", "log", "dev"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        # munged wants its socket reachable by all users, so no folder above may be closed to them.
        self.folder.chmod(0o755)
        (self.folder / "munge").chmod(0o711)
        key = self.folder / "munge/key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        for number in range(2):
            (self.folder / f"dev/gpu{number}").symlink_to("/dev/null")
        host, port = socket.gethostname().split(".")[0], _free_ports(1 + len(NODES))
        nodes = "\n".join(
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port + number} CPUs={CPUS} "
            f"RealMemory={MEMORY_MB} Gres=gpu:h200:2 State=UNKNOWN"
            for number, node in enumerate(NODES, 1)
        )
        names = ",".join(NODES)
        conf = SLURM_CONF.format(
            folder=self.folder, host=host, port=port, user=getpass.getuser(), nodes=nodes, names=names
        )
        etc = self.folder / "etc"
        (etc / "slurm.conf").write_text(conf)
        gpus = f"NodeName={names} Name=gpu Type=h200 File={self.folder}/dev/gpu[0-1]"
        (etc / "gres.conf").write_text(f"AutoDetect=off\n{gpus}\n")
        (etc / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        # Snakemake's job step drops every SLURM_ variable, this one with them.
        srun = self.folder / "bin/srun"
        real = shutil.which("srun", path=SEARCH)
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={etc}/slurm.conf exec {real} "$@"\n')
        srun.chmod(0o755)

    def start_node(self, node: str) -> None:
        """Start a node's daemon."""
        self._spawn("slurmd", "-D", "-N", node, name=node)

    def kill_node(self, node: str) -> None:
        """Lose a node as in a power cut: its daemon and all that it runs die at once, and Slurm knows."""
        daemon = self.daemons.pop(node)
        jobs = [job["id"] for job in self.jobs() if job["node"] == node]
        _kill_trees([daemon.pid, *self._steps(jobs)])
        daemon.wait()
        self.run(f"scontrol update nodename={node} state=down reason=lost")

    def _steps(self, jobs: list[str]) -> list[int]:
        """Return the daemons that watch over the steps of some jobs: they are no children of slurmd."""
        processes = _processes()
        named = {pid for pid, (_, command) in processes.items() if _job_of(command) in jobs}
        mark = f"{self.folder}/".encode()  # leaves out the jobs of another Slurm on this machine
        return sorted(
            {
                parent
                for pid, (parent, _) in processes.items()
                if parent in named and mark in _environment(pid)
            }
        )

    def revive_node(self, node: str) -> None:
        """Bring a lost node back."""
        self.start_node(node)
        self.run(f"scontrol update nodename={node} state=resume")

    def run(self, command: str, check: bool = True) -> str:
        """Run a Slurm command and return what it prints."""
        done = subprocess.run(
            command,
            shell=True,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if check and done.returncode:
            raise RuntimeError(f"{command}: {done.stderr}")
        return done.stdout

    def jobs(self, state: str = "RUNNING") -> list[dict[str, str]]:
        """Return id, comment (which names the rule) and node of all jobs in a state."""
        lines = self.run(f"squeue -h -t {state} -o '%A|%k|%N'").splitlines()
        return [dict(zip(("id", "comment", "node"), line.split("|"), strict=True)) for line in lines]

    def stop(self) -> None:
        """Cancel all jobs and end all daemons, the controller before munge."""
        if "slurmctld" in self.daemons:
            self.run(f"scancel --user={getpass.getuser()}", check=False)
            _until(lambda: not self.run("squeue -h", check=False).strip(), 15, "jobs to end", strict=False)
        for name in [*NODES, "slurmctld", "munged"]:
            daemon = self.daemons.pop(name, None)
            if daemon is None:
                continue
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def _spawn(self, program: str, *arguments: str, name: str | None = None) -> None:
        path = shutil.which(program, path=SEARCH)
        with (self.folder / f"log/{name or program}.out").open("w") as out:
            self.daemons[name or program] = subprocess.Popen(
                [path, *arguments], env=self.environment, stdout=out, stderr=out,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    def _wait(self, command: str) -> None:
        def ready() -> bool:
            return (
                subprocess.run(command, shell=True, env=self.environment, capture_output=True).returncode == 0
            )

        _until(ready, 120, command)


def _free_ports(count: int) -> int:
    """Return the first of ``count`` neighbouring ports nobody listens on."""
    for first in range(20000 + os.getpid() % 10000, 60000, count):
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise RuntimeError("no free ports")


def _until(ready: Callable[[], bool], seconds: float, what: str, strict: bool = True) -> None:
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            if strict:
                raise TimeoutError(f"waited {seconds} s for: {what}")
            return
        time.sleep(0.2)


def _processes() -> dict[int, tuple[int, str]]:
    """Return parent and command line of every process."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int(folder.joinpath("stat").read_text().rpartition(")")[2].split()[1])
            command = folder.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (OSError, ValueError):
            continue
        found[int(folder.name)] = (parent, command)
    return found


def _job_of(command: str) -> str | None:
    found = re.match(r"slurmstepd: \[(\d+)\.", command)
    return found and found[1]


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def _kill_trees(roots: list[int]) -> None:
    """Kill processes and all their descendants, parents first."""
    processes = _processes()
    doomed = list(roots)
    for pid in doomed:
        doomed += [child for child, (parent, _) in processes.items() if parent == pid]
    for pid in doomed:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def main() -> None:
    """Run a cluster until Ctrl-C."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # as Ctrl-C does: the daemons end first
    with MiniSlurm(Path(sys.argv[1])) as cluster:
        print(
            f"export SLURM_CONF={cluster.environment['SLURM_CONF']} PATH={cluster.folder}/bin:$PATH",
            flush=True,
        )
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
