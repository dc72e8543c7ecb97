"""What this machine is, as a site tells it to the hub: nothing but what plans may ask for."""

import os
import platform
import shutil
import subprocess

from hansa_core import wire

NVIDIA_SMI_SECONDS = 5.0


def hardware_of_this_machine() -> wire.Hardware:
    """Return what this machine says of itself."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        memory = 0
    return wire.Hardware(
        cpus=os.cpu_count() or 1,
        memory_bytes=memory,
        gpus=_gpu_names(),
        platform=platform.platform()[:256],
    )


def _gpu_names() -> list[str]:
    """Ask the driver's own tool, so that counting GPUs does not import torch."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        told = subprocess.run(  # noqa: S603 -- a fixed command, no shell
            [tool, "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=NVIDIA_SMI_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip()[:256] for line in told.stdout.splitlines() if line.strip()][:64]
