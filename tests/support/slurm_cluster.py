"""A real Slurm in a folder: Debian's munged, slurmctld and two slurmd, nodes of this host, run by a test as root."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue")
CONF = """
ClusterName=gridloom
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
JobRequeue=1
KillWait=30
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=sched_interval=1,bf_interval=2,defer,preempt_send_user_signal
{nodes}
PartitionName=low Nodes=ALL Default=YES MaxTime=60 PriorityTier=1 GraceTime=60 PreemptMode=REQUEUE
PartitionName=high Nodes=ALL MaxTime=60 PriorityTier=10 PreemptMode=OFF
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4 RealMemory=8000 State=UNKNOWN"
NODES = ("n1", "n2")


def problem() -> str:
    """Return why no Slurm can be started here, empty where it can."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed (apt-get install slurmctld slurmd slurm-client munge)"
    return "" if os.geteuid() == 0 else "only root may start it"


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _are_idle(environment: dict[str, str]) -> bool:
    shown = subprocess.run(["sinfo", "-h", "-N", "-p", "low", "-o", "%T"], env=environment, capture_output=True)
    return shown.stdout.split() == [b"idle"] * len(NODES)


@contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Run a Slurm with the partitions `low` and `high`, which preempts; yield the variables that its clients need."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("state", *(f"spool-{node}" for node in NODES)):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    folder.chmod(0o755)
    conf = folder / "slurm.conf"
    host = socket.gethostname()
    nodes = "\n".join(NODE.format(name=name, host=host, port=_free_port()) for name in NODES)
    conf.write_text(CONF.format(host=host, folder=folder, port=_free_port(), nodes=nodes))
    environment = {"SLURM_CONF": str(conf)}
    whole = {**os.environ, **environment}
    munge = [
        *("munged", "--foreground", "--force", f"--socket={folder}/munge.socket", f"--key-file={key}"),
        *(f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munged.log", f"--seed-file={folder}/munged.seed"),
    ]
    running: list[subprocess.Popen[bytes]] = []
    try:
        for command in (munge, ["slurmctld", "-D", "-c"], *(["slurmd", "-D", "-N", name] for name in NODES)):
            with (folder / f"{command[0]}-{len(running)}.out").open("wb") as out:
                running.append(subprocess.Popen(command, env=whole, stdout=out, stderr=out))
            time.sleep(1)
        deadline = time.monotonic() + 60
        while not _are_idle(whole):
            if time.monotonic() > deadline or any(one.poll() is not None for one in running):
                said = "\n".join(f"{path.name}: {path.read_text()[-1500:]}" for path in sorted(folder.glob("*.[lo]*")))
                raise RuntimeError(f"Slurm does not start: {said}")
            time.sleep(0.5)
        yield environment
    finally:
        subprocess.run(["scancel", "--full", "-u", "root"], env=whole, capture_output=True)
        for one in reversed(running):
            one.terminate()
            try:
                one.wait(10)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()
