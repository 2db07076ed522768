"""A Slurm of two nodes with two GPUs each on this machine: `python tests/cluster.py start|stop FOLDER`.

Real daemons of Debian's slurm-wlm, which need root; the GPUs are device files that nothing computes on. Every daemon is
stopped by its process id. There is no slurmdbd: how each job ended stands in FOLDER/jobs.txt.
"""

import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

NODES, GPUS = 2, 2
MEMORY = 16000  # MB that each node says it has, whatever this machine has
PACKAGES = ["slurm-wlm", "slurm-wlm-basic-plugins"]
ETC = Path("/etc/slurm")  # where a job step looks, whatever SLURM_CONF says
MARK = "# A Slurm of tests/cluster.py\n"
CONFIGURATION = """\
ClusterName=adtr
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=16817
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobs.txt
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=500
SchedulerParameters=bf_interval=1,sched_interval=2,batch_sched_delay=1
MpiDefault=none
ReturnToService=2
SlurmdTimeout=10
SlurmdParameters=config_overrides
KillWait=2
MinJobAge=600
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
PartitionName=gpu Nodes=ALL Default=YES PriorityTier=1 State=UP
PartitionName=urgent Nodes=ALL PriorityTier=10 PreemptMode=OFF State=UP
"""


class SlurmError(Exception):
    """Why there is none."""


def install() -> None:
    """Installs Slurm from Debian where it is missing.

    Raises:
        SlurmError: it cannot be installed here.
    """
    if shutil.which("slurmctld"):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise SlurmError("no Slurm here: install Debian's slurm-wlm, and run as root: the daemons need it")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
        done = subprocess.run(["apt-get", "-q", *words], env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SlurmError(f"Slurm cannot be installed here: apt-get {words[0]}: {done.stderr.strip()[-500:]}")


def start(folder: Path) -> None:
    """Starts the daemons, their files in `folder`, and waits until the nodes are idle; if they are not, stops all.

    Raises:
        SlurmError: this machine has a Slurm of its own, or the nodes do not come up.
    """
    if os.geteuid() != 0:
        raise SlurmError("the daemons of Slurm need root")
    for name in ("slurm.conf", "gres.conf"):
        if (ETC / name).exists() and not (ETC / name).read_text().startswith(MARK):
            raise SlurmError(f"{ETC / name} exists: this machine has a Slurm of its own")
        if (ETC / name).is_symlink():  # of a cluster that was not stopped
            stop((ETC / name).readlink().parent)
            (ETC / name).unlink(missing_ok=True)
    try:
        _start(folder)
    except BaseException:
        stop(folder)
        raise


def _start(folder: Path) -> None:
    (folder / "state").mkdir(exist_ok=True, parents=True)
    ETC.mkdir(exist_ok=True)
    host = socket.gethostname().partition(".")[0]
    text = MARK + CONFIGURATION.format(host=host, folder=folder)
    for n in range(1, NODES + 1):
        text += f"NodeName=n{n} NodeHostname={host} NodeAddr=127.0.0.1 Port={16820 + n} CPUs={os.cpu_count()}"
        text += f" RealMemory={MEMORY} Gres=gpu:fake:{GPUS}\n"
    for gpu in range(GPUS):
        if not (folder / f"gpu{gpu}").exists():
            os.mknod(folder / f"gpu{gpu}", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    (folder / "slurm.conf").write_text(text)
    (folder / "gres.conf").write_text(f"{MARK}Name=gpu Type=fake File={folder}/gpu[0-{GPUS - 1}]\n")
    for name in ("slurm.conf", "gres.conf"):
        (ETC / name).symlink_to(folder / name)
    subprocess.run(["slurmctld", "-c"], check=True)
    for n in range(1, NODES + 1):
        start_node(n)
    deadline = time.monotonic() + 30
    while _idle() < NODES:
        if time.monotonic() > deadline:
            raise SlurmError(f"the nodes did not come up: see the logs in {folder}")
        time.sleep(0.1)


def start_node(n: int) -> None:
    subprocess.run(["slurmd", "-N", f"n{n}"], check=True)


def stop(folder: Path) -> None:
    """Ends every job, then every daemon that was started in `folder`."""
    if running(folder / "slurmctld.pid"):
        empty_queue()
    for file in [*folder.glob("slurmd-*.pid"), folder / "slurmctld.pid"]:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            if (pid := running(file)) is not None:
                os.kill(pid, sign)
                _wait(pid)
    for name in ("slurm.conf", "gres.conf"):
        if (ETC / name).is_symlink() and (ETC / name).readlink() == folder / name:
            (ETC / name).unlink()


def empty_queue() -> None:
    """Cancels every job, and waits half a minute for their ends."""
    subprocess.run(["scancel", "--user", "root"], capture_output=True)
    deadline = time.monotonic() + 30
    while queue() and time.monotonic() < deadline:
        time.sleep(0.2)


def queue() -> dict[str, str]:
    """The comment of each job that waits, runs or ends, by its number."""
    words = ["squeue", "--me", "--noheader", "--format=%i|%k"]
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    return dict(line.split("|", 1) for line in lines)


def running(file: Path) -> int | None:
    """The process that a pid file names, if it is alive."""
    try:
        pid = int(file.read_text())
    except (OSError, ValueError):
        return None
    return pid if alive(pid) else None


def ended(folder: Path) -> list[dict[str, str]]:
    """How each job ended, from Slurm's own record: JobId, JobState, Name, StartTime, EndTime and more."""
    path = folder / "jobs.txt"
    lines = path.read_text().splitlines() if path.is_file() else []
    return [dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines]


def _idle() -> int:
    words = ["sinfo", "--noheader", "--Node", "--partition=gpu", "--states=idle", "--format=%n"]
    return len(subprocess.run(words, capture_output=True, text=True).stdout.split())


def _wait(pid: int) -> None:
    """Until a process has ended, ten seconds at most."""
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.1)


def alive(pid: int) -> bool:
    """Whether a process is there and not dead already, only not yet waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


if __name__ == "__main__":
    action, place = sys.argv[1:]
    {"start": start, "stop": stop}[action](Path(place).resolve())
