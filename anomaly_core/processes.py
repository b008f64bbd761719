"""The device and the processes of a run: Hugging Face Accelerate's, reached through this one door."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch

from anomaly_core.cores import threads
from anomaly_core.errors import AnomalyError, ConfigError, RunError

if TYPE_CHECKING:
    from accelerate import Accelerator, PartialState

PATIENCE = timedelta(hours=6)  # other processes wait while the main one judges


def is_launched() -> bool:
    """Whether a launcher (``--devices``, torchrun, accelerate launch) started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def state(device: str = "auto") -> PartialState:
    """Accelerate's view of the processes; joins the group of them where there are several."""
    from accelerate import PartialState

    cpu = is_launched() and (device == "cpu" or not torch.cuda.is_available())
    return PartialState(cpu=cpu, **({"timeout": PATIENCE} if is_launched() else {}))


def choose_device(name: str) -> torch.device:
    """The device that a name means; ``auto`` is what Accelerate finds. ConfigError where it is not there."""
    if name == "auto" or is_launched():
        return torch.device(state(name).device)
    device = torch.device(name)
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}[device.type]
    if not available or (device.index or 0) >= max(1, torch.cuda.device_count()):
        raise ConfigError(f"base.device={name} is not available here. Use base.device=auto or base.device=cpu.")
    return device


def accelerator(device: torch.device, precision: str = "32", seed: int = 0) -> Accelerator:
    """An Accelerator that splits each batch over the processes, so that their number does not change what is learnt.

    Args:
        device: where modeler and batches are put, by their owner.
        precision: ``32``, ``bf16-mixed`` or ``16-mixed``.
        seed: with the epoch's number, gives the order of shuffled images, the same in every process and after a resume.

    Raises:
        ConfigError: the device cannot compute in that precision.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import DataLoaderConfiguration

    joined = state(device.type)
    if not is_launched():
        joined.device = device  # one process computes where it was told to
    # Accelerate keeps one state for the whole process; the next run may want another precision.
    AcceleratorState._reset_state()
    mixed = {"32": "no", "bf16-mixed": "bf16", "16-mixed": "fp16"}[precision]
    try:
        made = Accelerator(
            mixed_precision=mixed,
            cpu=device.type == "cpu",
            device_placement=False,
            dataloader_config=DataLoaderConfiguration(split_batches=True, use_seedable_sampler=True, data_seed=seed),
        )
    except (ValueError, RuntimeError) as error:
        raise ConfigError(
            f"train.precision={precision} is not available on the device {str(device)!r}: {error}. Use train.precision=32."
        ) from error
    if mixed == "fp16" and device.type == "cpu":
        raise ConfigError("train.precision=16-mixed needs a GPU. Use train.precision=32 or bf16-mixed.")
    return made


def launch(devices: int, work: Callable[..., Any], *arguments: Any) -> Any:
    """Run ``work(*arguments)`` in several processes of this machine, one a device, and return what the main one returned.

    Args:
        devices: how many processes; on a machine with GPUs one a GPU.
        work: an importable function; arguments and result are pickled.

    Raises:
        AnomalyError: the first that a process raised, or RunError for a process that died otherwise.
    """
    from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, start_processes

    if torch.cuda.is_available() and devices > torch.cuda.device_count():
        raise ConfigError(f"--devices {devices}: this machine has {torch.cuda.device_count()} GPU(s).")
    context = torch.multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    group = start_processes(_work, (devices, port, answers, work, arguments), nprocs=devices, join=False, start_method="spawn")
    try:
        while not group.join():
            pass
    except KeyboardInterrupt:
        for process in group.processes:
            if process.is_alive() and process.pid is not None:
                os.kill(process.pid, signal.SIGINT)
        for process in group.processes:
            process.join(10)
            process.kill()
        raise
    except (ProcessExitedException, ProcessRaisedException) as error:
        if answers.empty():
            raise RunError(
                f"process {error.error_index} of {devices} died: {str(error).strip().splitlines()[-1]}. "
                "Run again with --resume to go on from the last complete epoch."
            ) from error
    answer = answers.get()
    if isinstance(answer, BaseException):
        raise answer
    return answer


def _work(rank: int, devices: int, port: int, answers: Any, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(devices),
        "LOCAL_WORLD_SIZE": str(devices),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": str(threads(devices)),
    }
    torch.set_num_threads(threads(devices))
    try:
        result = work(*arguments)
    except AnomalyError as error:
        answers.put(error)
        raise SystemExit(error.exit_code) from None
    if rank == 0:
        answers.put(result)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
