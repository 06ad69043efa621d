"""Storage: where workers leave checkpoints and models: a folder, or any fsspec URL that all of them reach."""

from __future__ import annotations

import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import ConfigError, one_line


class Storage(ABC):
    """Files by relative name, `checkpoints/12.pt` for one. Each is there whole or not at all."""

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """The file's content; None where there is none."""

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """All of the content or the old file, whatever happens in between."""

    @abstractmethod
    def move(self, name: str, to: str) -> None:
        """Renames a file, if it is there."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""


class Folder(Storage):
    """A folder of this machine, or one that it shares with others."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, name: str) -> bytes | None:
        try:
            with open(f"{self.path}/{name}", "rb") as file:  # asked for each trial; to join paths takes longer
                return file.read()
        except OSError:
            return None

    def write(self, name: str, content: bytes) -> None:
        write_atomically(self.path / name, content)

    def move(self, name: str, to: str) -> None:
        if (self.path / name).exists():
            os.replace(self.path / name, self.path / to)

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(f"{self.path}/{name}")


class Remote(Storage):
    """What fsspec reaches: `s3://bucket/folder`, `gs://…`. Object stores put a file whole or not at all."""

    def __init__(self, url: str) -> None:
        """Raises ConfigError where fsspec does not know the protocol, or lacks the package for it."""
        import fsspec

        try:
            self.files, self.root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError, OSError) as error:
            raise ConfigError(f"the storage {url!r} cannot be used: {one_line(error)}") from None

    def read(self, name: str) -> bytes | None:
        try:
            with _as_os_error():
                content: bytes = self.files.cat_file(self._path(name))
        except FileNotFoundError:
            return None
        return content

    def write(self, name: str, content: bytes) -> None:
        path = self._path(name)
        with _as_os_error():
            self.files.makedirs(path.rpartition("/")[0], exist_ok=True)
            self.files.pipe_file(path, content)

    def move(self, name: str, to: str) -> None:
        with _as_os_error():
            if self.files.exists(self._path(name)):
                self.files.mv(self._path(name), self._path(to))

    def remove(self, name: str) -> None:
        with _as_os_error():
            if self.files.exists(self._path(name)):
                self.files.rm_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{name}"


@contextmanager
def _as_os_error() -> Iterator[None]:
    """Backends have exceptions of their own; what went wrong with a file is an OSError."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(one_line(error)) from error


def storage_at(where: str | Path) -> Storage:
    """The storage of a folder or an fsspec URL. Raises ConfigError."""
    return Remote(where) if isinstance(where, str) and "://" in where else Folder(Path(where))


def write_atomically(path: Path, content: bytes) -> None:
    """All of the content or the old file, whatever happens in between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{secrets.token_hex(8)}.new")  # nobody can have laid a link there beforehand
    try:
        with open(beside, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def fetch(storage: Storage, name: str, folder: Path) -> None:
    """Copies a file out of the storage into a folder, where it is not there anyway."""
    if isinstance(storage, Folder) and storage.path.resolve() == folder.resolve():
        return
    content = storage.read(name)
    if content is not None:
        write_atomically(folder / name, content)
