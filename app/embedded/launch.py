"""Starts one child so that it cannot outlive its parent: `python -I -S launch.py ...`.

Run as a script, with the standard library alone, because forking inside a process that has
threads and then running Python there is not safe. The order matters: a change of user clears
the parent-death signal, so that is set last; the parent may have died before it was set, so
its pid is compared afterwards; exec keeps it.

Arguments: DEATH_SIGNAL PARENT_PID UID GID PROGRAM [ARGUMENT...]; UID and GID are "-" to keep.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def die_with_parent(death_signal: int) -> None:
    """Ask the kernel to send this process `death_signal` when its parent thread ends.

    Raises:
        OSError: the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def main(arguments: list[str]) -> None:
    """Become the program named in `arguments`; never returns."""
    for number in (signal.SIGINT, signal.SIGTERM):  # ignored where a shell put us in the background
        signal.signal(number, signal.SIG_DFL)
    death_signal, parent_pid, uid, gid, *argv = arguments
    libc_loaded = ctypes.CDLL(None)  # while we may still read our own installation
    del libc_loaded
    if uid != "-":
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
    die_with_parent(int(death_signal))
    if os.getppid() != int(parent_pid):
        sys.exit("the supervisor ended before this process began")
    try:
        os.execvp(argv[0], argv)  # noqa: S606 -- the very purpose of this script
    except OSError as error:
        sys.exit(f"cannot run {argv[0]}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
