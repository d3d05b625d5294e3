"""Compiled kernels on disk, shared by processes.

One file a kernel, written aside and renamed, so that a reader sees all of it or nothing; a checksum, so that what a
full disk or a bad sector left is compiled anew and never run. A lock a kernel keeps two processes from compiling the
same one; the system takes it back from a process that dies. A folder that cannot be written costs one warning and every
process its own compile.

GOSSAMER_CACHE_DIR names the folder. It holds at most GOSSAMER_CACHE_SIZE bytes ("500M", "2G"; 1G if it is not set):
what was not used for longest is removed when a kernel is stored.
"""

import contextlib
import hashlib
import os
import re
import shutil
import stat
import struct
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import filelock
import platformdirs

from gossamer.compiler.library import Artifact
from gossamer.errors import CacheWarning

# Magic and version of the file format, SHA-256 of what follows the header, lengths of the signature, the object and the
# kernels of a GPU.
_HEADER = struct.Struct("<8s32sQQQ")
_MAGIC = b"gossamr2"
# A process that hangs while it compiles must not hang the others.
_LOCK_SECONDS = 120.0

_DEFAULT_SIZE = 1 << 30
# Of the names of files that are being written; one that is older is nobody's.
_ASIDE, _ASIDE_SECONDS = ".new-", 3600.0

_warned: set[object] = set()
_warned_lock = threading.Lock()


def cache_folder() -> Path:
    """Returns $GOSSAMER_CACHE_DIR, or the user's cache folder for gossamer."""
    override = os.environ.get("GOSSAMER_CACHE_DIR")
    return Path(override) if override else platformdirs.user_cache_path("gossamer")


def size_limit() -> int:
    """Returns $GOSSAMER_CACHE_SIZE in bytes; warns once if it is no size."""
    text = os.environ.get("GOSSAMER_CACHE_SIZE", "")
    match = re.fullmatch(r"(\d+)\s*([KMGT]?)(i?B)?", text.strip(), re.IGNORECASE)
    if match:
        return int(match[1]) << 10 * " KMGT".index(match[2].upper() or " ")
    if text:
        _warn(text, f"GOSSAMER_CACHE_SIZE={text!r} is no size such as 500M or 2G; the kernel cache keeps 1G")
    return _DEFAULT_SIZE


class DiskCache:
    """The kernels below one folder.

    Args:
        folder: Made when something is first stored.
        limit: Its size in bytes.
    """

    def __init__(self, folder: Path, limit: int | None = None):
        self.folder = folder
        self.limit = size_limit() if limit is None else limit

    def path(self, digest: str) -> Path:
        """Returns where the kernel of this digest is, or would be."""
        return self.folder / "kernels" / digest[:2] / digest[2:]

    def load(self, digest: str) -> Artifact | None:
        """Returns the kernel, or None if there is none or its file is damaged."""
        path = self.path(digest)
        try:
            artifact = _decode(path.read_bytes())
        except OSError:
            return None
        with contextlib.suppress(OSError):  # a folder that is only read
            os.utime(path)
        return artifact

    def store(self, digest: str, artifact: Artifact) -> None:
        """Writes the kernel, and removes others if there is no room; warns once if it cannot be written."""
        path = self.path(digest)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():  # something went wrong here, and would for ever
                shutil.rmtree(path)
            write_atomically(path, _encode(artifact))
        except OSError as error:
            self._warn(error)
        else:
            self._evict()

    def _evict(self) -> None:
        """Removes what was not used for longest until the folder is small enough, and what killed processes left."""
        files = []
        for path in (*self.folder.glob("kernels/??/*"), *self.folder.glob("failed/*")):
            with contextlib.suppress(OSError):
                status = path.stat()
                aside = path.name.startswith(_ASIDE)
                if aside and time.time() - status.st_mtime > _ASIDE_SECONDS:
                    path.unlink()
                elif stat.S_ISREG(status.st_mode) and not aside and path.suffix != ".lock":
                    files.append((status.st_mtime, status.st_size, path))
        size = sum(size for _, size, _ in files)
        for _, freed, path in sorted(files):
            if size <= self.limit:
                break
            with contextlib.suppress(OSError):
                path.unlink()
                # Who waits for the old lock now may compile beside who takes a new one: twice the work, no harm.
                path.with_suffix(".lock").unlink()
            size -= freed

    @contextlib.contextmanager
    def lock(self, digest: str) -> Iterator[None]:
        """Holds the kernel's lock against other processes, where the folder allows it."""
        lock = filelock.FileLock(self.path(digest).with_suffix(".lock"), timeout=_LOCK_SECONDS)
        try:
            self.path(digest).parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except (OSError, NotImplementedError) as error:  # TimeoutError is an OSError
            self._warn(error)
        try:
            yield
        finally:
            lock.release()

    def _warn(self, error: Exception) -> None:
        _warn(
            self.folder,
            f"the kernel cache {self.folder} cannot be used ({error}); every process compiles for itself. "
            "GOSSAMER_CACHE_DIR names another folder.",
        )


def _warn(topic: object, text: str) -> None:
    with _warned_lock:
        if topic in _warned:
            return
        _warned.add(topic)
    warnings.warn(text, CacheWarning, stacklevel=3)


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file so that a reader, or another writer, sees all of it or the former one.

    Raises:
        OSError: It cannot be written; nothing is left behind.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=_ASIDE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def _encode(artifact: Artifact) -> bytes:
    parts = artifact.signature.encode(), artifact.object, artifact.kernels.encode()
    content = b"".join(parts)
    return _HEADER.pack(_MAGIC, hashlib.sha256(content).digest(), *map(len, parts)) + content


def _decode(data: bytes) -> Artifact | None:
    if len(data) < _HEADER.size:
        return None
    magic, checksum, *sizes = _HEADER.unpack_from(data)
    content = data[_HEADER.size :]
    if magic != _MAGIC or len(content) != sum(sizes):
        return None
    if hashlib.sha256(content).digest() != checksum:
        return None
    first, last = sizes[0], sizes[0] + sizes[1]
    return Artifact(content[:first].decode(), content[first:last], content[last:].decode())
