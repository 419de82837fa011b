"""A SLURM of two nodes on this machine, with pretended GPUs: starts, watches and stops it."""

import contextlib
import importlib.util
import os
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

NODES = ("node1", "node2")
GPUS_PER_NODE = 2
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel", "sinfo")
# The steps of a job read their configuration here, because they do not inherit SLURM_CONF.
SYSTEM_FOLDER = Path("/etc/slurm")
PREFIX = "gpt2-ablations-slurm-"

SLURM_CONF = """\
ClusterName={cluster}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CryptoType=crypto/munge
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmctldLogFile={folder}/log/slurmctld.log
StateSaveLocation={folder}/state
SlurmdPidFile={folder}/run/slurmd-%n.pid
SlurmdLogFile={folder}/log/slurmd-%n.log
SlurmdSpoolDir={folder}/spool/%n
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
EnforcePartLimits=ALL
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=5
ReturnToService=2
MinJobAge=3600
KillWait=5
SlurmdTimeout=15
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
GresTypes=gpu
{nodes}
PartitionName=cpu Nodes={names} Default=YES MaxTime=60 State=UP
PartitionName=gpu Nodes={names} MaxTime=60 State=UP
"""
NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4 RealMemory=8000"
    " Gres=gpu:{gpus} State=UNKNOWN"
)


def lacking() -> str | None:
    """Why no lab can be started on this machine; None if one can."""
    if os.geteuid() != 0:
        return "a SLURM lab needs root"
    missing = [program for program in PROGRAMS if not find(program)]
    if missing:
        return f"{missing[0]} is not installed; `make test-slurm` installs it"
    if not importlib.util.find_spec("snakemake_executor_plugin_slurm"):
        return "snakemake-executor-plugin-slurm is not installed; `make setup-slurm` installs it"
    return None


def find(program: str) -> str | None:
    """The path of a program. Daemons are in folders that may not be in a user's PATH."""
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> object:
    """Poll a condition until it is true; returns its value.

    Raises:
        TimeoutError: it was not true in time.
    """
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.2)
    return found


class Lab:
    """A running SLURM: partitions `cpu` and `gpu`, both of node1 and node2, each of 4 CPUs, 8000 MB and 2 GPUs."""

    def __init__(self) -> None:
        # munged requires that every user may enter the folder of its socket.
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        self.folder.chmod(0o755)
        self.cluster = f"lab{os.getpid()}"
        self._links: list[Path] = []

    def start(self) -> None:
        """Write the configuration, start the daemons and wait until both nodes are idle.

        Raises:
            FileExistsError: this machine has a SLURM of its own.
            TimeoutError: a daemon does not start.
        """
        self._configure()
        self._start_munged()
        self._daemon("slurmctld", "-c")
        for node in NODES:
            self.start_node(node)
        wait_until(
            lambda: self.node_states() == dict.fromkeys(NODES, "idle"), 60, f"SLURM is up (its logs: {self.folder}/log)"
        )

    def stop(self) -> None:
        """End all jobs and daemons, each by its process id, and remove every file."""
        subprocess.run(["scancel", "--user=root"], capture_output=True, timeout=30, check=False)
        kill(self.job_processes())
        pid_files = [self.folder / "run" / f"slurmd-{node}.pid" for node in NODES]
        pid_files += [self.folder / "run" / "slurmctld.pid", self.folder / "munge" / "pid"]
        end([process for file in pid_files if (process := _process(file))])
        # A job may have started meanwhile.
        kill(self.job_processes())
        for link in self._links:
            link.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def start_node(self, node: str) -> None:
        """Start the daemon of a node."""
        self._daemon("slurmd", "-N", node)

    def kill_node(self, node: str) -> None:
        """Kill the node's daemon and all processes of its jobs at once, as a power failure does."""
        daemon = _process(self.folder / "run" / f"slurmd-{node}.pid")
        kill([*filter(None, [daemon]), *self.job_processes(node)])

    def start_requeued(self, seconds: float = 90) -> None:
        """Wait until the job of a lost node is queued again, and start it without SLURM's delay of two minutes."""
        waiting = wait_until(
            lambda: [job["JobId"] for job in self.jobs() if job["JobState"] == "PENDING" and job["Restarts"] != "0"],
            seconds,
            "a job is queued again",
        )
        for job in waiting:
            subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], check=True, timeout=30)

    def node_states(self) -> dict[str, str]:
        """The state of each node: `idle`, `mixed`, `down` …; a `*` follows if the node does not answer."""
        done = subprocess.run(["sinfo", "-hN", "-p", "cpu", "-o", "%N %T"], capture_output=True, text=True, timeout=30)
        return dict(line.split() for line in done.stdout.splitlines()) if done.returncode == 0 else {}

    def jobs(self) -> list[dict[str, str]]:
        """All jobs since the start: the fields that `scontrol show job` prints, for each."""
        shown = subprocess.run(["scontrol", "-o", "show", "job"], capture_output=True, text=True, timeout=30)
        found = []
        for line in shown.stdout.splitlines():
            fields = (word.split("=", 1) for word in line.split(" ") if "=" in word)
            found.append(dict(fields))
        return [job for job in found if "JobId" in job]

    def jobs_in(self, folder: Path, rule: str | None = None, row: str | None = None) -> list[dict[str, str]]:
        """The jobs submitted in a folder, of one rule or one row if given, in order, each with its `Rule`."""
        found = []
        for job in self.jobs():
            if job["WorkDir"] == str(folder):
                # Snakemake writes this comment: rule_train_wildcards_ROW_SEED.
                name, _, wildcards = job["Comment"].removeprefix("rule_").partition("_wildcards_")
                if rule in (None, name) and row in (None, wildcards.rsplit("_", 1)[0]):
                    found.append(job | {"Rule": name})
        return sorted(found, key=lambda job: int(job["JobId"]))

    def busy_jobs(self) -> list[str]:
        """The ids of the jobs that run or wait."""
        return [job["JobId"] for job in self.jobs() if job["JobState"] in ("RUNNING", "PENDING", "COMPLETING")]

    def wait_for_quiet(self, seconds: float = 60) -> None:
        """Wait until no job runs or waits."""
        wait_until(lambda: not self.busy_jobs(), seconds, "no job is left")

    def job_processes(self, node: str | None = None) -> list[psutil.Process]:
        """The processes of this lab's jobs, on one node or on all, with the slurmstepd processes that hold them."""
        found = []
        for process in psutil.process_iter():
            try:
                where = self._node_of_holder(process) or self._node_of_job(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            if where and node in (None, where):
                found.append(process)
        return found

    def _node_of_holder(self, process: psutil.Process) -> str | None:
        """The node whose job this slurmstepd holds, found by its socket."""
        if process.name() != "slurmstepd" or process.cwd() != str(self.folder / "log"):
            return None
        sockets = [Path(connection.laddr) for connection in process.net_connections("unix") if connection.laddr]
        return next((file.parent.name for file in sockets if file.is_relative_to(self.folder / "spool")), "?")

    def _node_of_job(self, process: psutil.Process) -> str | None:
        environment = process.environ()
        return environment.get("SLURMD_NODENAME") if environment.get("SLURM_CLUSTER_NAME") == self.cluster else None

    def _configure(self) -> None:
        for part in ("run", "log", "state", "spool", "munge", "dev"):
            (self.folder / part).mkdir(mode=0o755)
        host = socket.gethostname().split(".")[0]
        ports = _free_ports(1 + len(NODES))
        gres = []
        nodes = []
        for number, (name, port) in enumerate(zip(NODES, ports[1:])):
            first = number * GPUS_PER_NODE
            for gpu in range(first, first + GPUS_PER_NODE):
                # SLURM refuses plain files as devices; this one is /dev/null under another name.
                os.mknod(self.folder / "dev" / f"nvidia{gpu}", stat.S_IFCHR | 0o666, os.makedev(1, 3))
            gres.append(f"NodeName={name} Name=gpu File={self.folder}/dev/nvidia[{first}-{first + GPUS_PER_NODE - 1}]")
            nodes.append(NODE.format(name=name, host=host, port=port, gpus=GPUS_PER_NODE))
        self._install(
            "slurm.conf",
            SLURM_CONF.format(
                cluster=self.cluster,
                host=host,
                controller_port=ports[0],
                folder=self.folder,
                nodes="\n".join(nodes),
                names=",".join(NODES),
            ),
        )
        self._install("gres.conf", "\n".join(gres) + "\n")

    def _install(self, name: str, text: str) -> None:
        file = self.folder / name
        file.write_text(text)
        link = SYSTEM_FOLDER / name
        if link.is_symlink() and os.readlink(link).startswith(f"{tempfile.gettempdir()}/{PREFIX}"):
            # Of a lab that was killed.
            link.unlink()
        if os.path.lexists(link):
            raise FileExistsError(f"{link} exists: this machine has a SLURM of its own; run the lab elsewhere")
        link.symlink_to(file)
        self._links.append(link)

    def _start_munged(self) -> None:
        folder = self.folder / "munge"
        key = folder / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        files = {"socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed", "key-file": "key"}
        options = [f"--{option}={folder}/{file}" for option, file in files.items()]
        subprocess.run([find("munged"), "--force", *options], check=True, capture_output=True, timeout=30)

    def _daemon(self, program: str, *arguments: str) -> None:
        subprocess.run([find(program), *arguments], check=True, capture_output=True, timeout=60)


def end(processes: list[psutil.Process], seconds: float = 10) -> None:
    """Terminate processes, wait, and kill those that still run."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    kill(psutil.wait_procs(processes, timeout=seconds)[1])


def kill(processes: list[psutil.Process], seconds: float = 10) -> None:
    """Kill processes and wait for their end."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=seconds)


def _process(pid_file: Path) -> psutil.Process | None:
    """The process whose id a file holds; None if it does not run."""
    try:
        return psutil.Process(int(pid_file.read_text()))
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return None


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
