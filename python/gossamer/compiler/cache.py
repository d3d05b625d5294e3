"""Compiled kernels on disk, shared by processes.

One file a kernel, written aside and renamed, so that a reader sees all of it or nothing; a checksum, so that what a
full disk or a bad sector left is compiled anew and never run. A lock a kernel keeps two processes from compiling the
same one. A folder that cannot be used costs one warning and every process its own compile.
"""

import contextlib
import hashlib
import os
import struct
import tempfile
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import filelock
import platformdirs

from gossamer.compiler.library import Artifact
from gossamer.errors import CacheWarning

# Magic and version of the file format, SHA-256 of what follows the header, lengths of the signature and the object.
_HEADER = struct.Struct("<8s32sQQ")
_MAGIC = b"gossamr1"
# A process that hangs while it compiles must not hang the others.
_LOCK_SECONDS = 120.0

_warned: set[Path] = set()
_warned_lock = threading.Lock()


def cache_folder() -> Path:
    """Returns $GOSSAMER_CACHE_DIR, or the user's cache folder for gossamer."""
    override = os.environ.get("GOSSAMER_CACHE_DIR")
    return Path(override) if override else platformdirs.user_cache_path("gossamer")


class DiskCache:
    """The kernels below one folder.

    Args:
        folder: Made when something is first stored.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def path(self, digest: str) -> Path:
        """Returns where the kernel of this digest is, or would be."""
        return self.folder / "kernels" / digest[:2] / digest[2:]

    def load(self, digest: str) -> Artifact | None:
        """Returns the kernel, or None if there is none or its file is damaged."""
        try:
            return _decode(self.path(digest).read_bytes())
        except OSError:
            return None

    def store(self, digest: str, artifact: Artifact) -> None:
        """Writes the kernel; warns once if that is impossible."""
        path = self.path(digest)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, _encode(artifact))
        except OSError as error:
            self._warn(error)

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
        with _warned_lock:
            if self.folder in _warned:
                return
            _warned.add(self.folder)
        warnings.warn(
            f"the kernel cache {self.folder} cannot be used ({error}); every process compiles for itself. "
            "GOSSAMER_CACHE_DIR names another folder.",
            CacheWarning,
            stacklevel=2,
        )


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file so that a reader, or another writer, sees all of it or the former one.

    Raises:
        OSError: It cannot be written; nothing is left behind.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def _encode(artifact: Artifact) -> bytes:
    signature = artifact.signature.encode()
    checksum = hashlib.sha256(signature + artifact.object).digest()
    header = _HEADER.pack(_MAGIC, checksum, len(signature), len(artifact.object))
    return header + signature + artifact.object


def _decode(data: bytes) -> Artifact | None:
    if len(data) < _HEADER.size:
        return None
    magic, checksum, signature_size, object_size = _HEADER.unpack_from(data)
    content = data[_HEADER.size :]
    if magic != _MAGIC or len(content) != signature_size + object_size:
        return None
    if hashlib.sha256(content).digest() != checksum:
        return None
    return Artifact(content[:signature_size].decode(), content[signature_size:])
