"""Rank and number of the processes of a training, from the environment variables of torchrun or of SLURM's srun.

Nothing is guessed. If several processes were launched and the environment does not give the rank of each, they are
refused: each would train alone, and all into one folder.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from floemap.errors import ConfigError

#: Variables in which other launchers give the number of processes: Open MPI, MPICH and Intel MPI, MVAPICH.
_OF_MPI = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
_HOW = "Start it with torchrun, or with srun."


@dataclass(frozen=True)
class Place:
    """Place of this process among those that were launched together.

    Attributes
    ----------
    rank, world
        Rank of this process, from 0, and number of processes.
    local_rank, local_world
        The same among the processes on this host.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1

    def variables(self, address: str, port: int) -> dict[str, str]:
        """Return the environment variables for torch.distributed, given the address of the first process."""
        return {
            "RANK": str(self.rank),
            "WORLD_SIZE": str(self.world),
            "LOCAL_RANK": str(self.local_rank),
            "LOCAL_WORLD_SIZE": str(self.local_world),
            "GROUP_RANK": str(self.rank // self.local_world),
            "MASTER_ADDR": address,
            "MASTER_PORT": str(port),
        }


def tasks(environ: Mapping[str, str] | None = None) -> int:
    """Return how many processes were launched together, by any launcher; 1 for a single process.

    Raises
    ------
    ConfigError
        If the value of a variable is not a number.
    """
    env = os.environ if environ is None else environ
    if "WORLD_SIZE" in env:  # torchrun's own, also within a task of SLURM's
        return _number(env, "WORLD_SIZE")
    if "SLURM_STEP_NUM_TASKS" in env:
        return _number(env, "SLURM_STEP_NUM_TASKS")
    return max(_number(env, name) for name in ("SLURM_NTASKS", *_OF_MPI))


def place(environ: Mapping[str, str] | None = None) -> Place:
    """Return the place of this process.

    Raises
    ------
    ConfigError
        If there are several processes and the environment does not give the rank of this one, or if
        the hosts have different numbers of processes.
    """
    env = os.environ if environ is None else environ
    world = tasks(env)
    if world == 1:
        return Place()
    if "WORLD_SIZE" in env:
        names = ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
        _need(env, names, f"WORLD_SIZE says that there are {world} processes", "torchrun sets them.")
        local = _number(env, "LOCAL_WORLD_SIZE")
        return _checked(Place(_number(env, "RANK", 0), world, _number(env, "LOCAL_RANK", 0), local))
    if "SLURM_STEP_NUM_TASKS" in env:
        _need(env, ("SLURM_PROCID", "SLURM_LOCALID"), f"SLURM has started {world} tasks", "srun sets them.")
        hosts = _number(env, "SLURM_STEP_NUM_NODES") if "SLURM_STEP_NUM_NODES" in env else _number(env, "SLURM_NNODES")
        if world % hosts:
            raise ConfigError(
                f"SLURM has started {world} tasks on {hosts} hosts, not the same number on each.",
                hint="Give `srun --ntasks-per-node`.",
            )
        return _checked(Place(_number(env, "SLURM_PROCID", 0), world, _number(env, "SLURM_LOCALID", 0), world // hosts))
    if _number(env, "SLURM_NTASKS") > 1:
        raise ConfigError(
            f"SLURM has {world} tasks here (SLURM_NTASKS), but the environment does not give the rank of this process.",
            hint="Start it with srun (`srun --ntasks=1` for one task), or with torchrun.",
        )
    raise ConfigError(
        f"there are {world} processes, but the environment does not give the rank of this one.", hint=_HOW
    )


def first_address(environ: Mapping[str, str] | None = None) -> tuple[str, int]:
    """Return the address of the first process: host and port.

    torchrun gives both. With SLURM it is the first host of the step, and a port derived from the ids of job and step.
    """
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

    env = os.environ if environ is None else environ
    hosts = env.get("SLURM_STEP_NODELIST") or env.get("SLURM_NODELIST") or "127.0.0.1"
    step = 10 * _number(env, "SLURM_JOB_ID", 0) + _number(env, "SLURM_STEP_ID", 0)
    port = _number(env, "MASTER_PORT", 15000 + step % 10_000)
    return env.get("MASTER_ADDR") or SLURMEnvironment.resolve_root_node_address(hosts), port


def _checked(found: Place) -> Place:
    if not (found.rank < found.world and found.local_rank < found.local_world <= found.world):
        raise ConfigError(f"the environment describes an impossible process: {found}.", hint=_HOW)
    if found.world % found.local_world:
        raise ConfigError(
            f"{found.world} processes cannot be {found.local_world} on each host.",
            hint="Start the same number on each.",
        )
    return found


def _need(env: Mapping[str, str], names: tuple[str, ...], why: str, hint: str) -> None:
    missing = [name for name in names if name not in env]
    if missing:
        raise ConfigError(f"{why}, but {', '.join(missing)} is not set.", hint=f"{hint} {_HOW}")


def _number(env: Mapping[str, str], name: str, default: int = 1) -> int:
    text = env.get(name, "").strip() or str(default)
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ConfigError(f"the environment variable {name} is {text[:40]!r}, which is not a number.")
    return int(text)
