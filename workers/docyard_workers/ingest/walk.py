"""Finds the files below paths, one folder at a time, and says why it refused what it refused."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from docyard_schema.errors import InvalidInput
from docyard_workers.ingest import media_type
from docyard_workers.ingest.ignore import IgnoreRules, compile_globs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pathspec import GitIgnoreSpec

MAX_BYTES = 100 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFile:
    """A file to ingest; ``source_uri`` is pure ASCII whatever bytes the name has, ``size`` is in bytes."""

    path: Path
    source_uri: str
    size: int
    modified_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A path that will not be ingested.

    Codes: ``not_found``, ``unreadable``, ``not_a_file`` (FIFO, socket, device), ``too_large``,
    ``unsupported`` (no parser for that kind of name).
    """

    path: Path
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Folder:
    path: str
    real: str
    prefix: str
    rules: IgnoreRules


def find_files(
    paths: Iterable[str | Path],
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    max_bytes: int = MAX_BYTES,
) -> Iterator[FoundFile | Refused]:
    """The files at and below ``paths``, in a stable order, as they are found.

    Globs are those of a ``.gitignore``, relative to each given folder. ``exclude`` always wins; with
    ``include`` only files that match it are taken, even when an ignore rule names them. Without it, files
    whose names no parser knows are refused as ``unsupported``. Passed over in silence: hidden files and
    folders (as ripgrep does; ``.env`` holds secrets), caches, ``node_modules``, ``venv``, editors' swap
    files, and what the ``.gitignore`` files at and below the given folder say; a ``!`` line in one of
    them brings a hidden name back. A file that is named itself is always taken.

    Links are followed. A file or folder that is reached twice is given once, a real path before a link.
    Memory holds one folder's names, and under 100 bytes per file seen. Raises
    :class:`~docyard_schema.errors.InvalidInput` for a malformed glob, before the first file.
    """
    if isinstance(paths, str):
        raise InvalidInput(f"paths: expected a list of paths, not one string: {paths!r}")
    walk = _Walk(compile_globs(include, "include"), compile_globs(exclude, "exclude"), max_bytes)
    return walk.run(paths)


class _Walk:
    def __init__(self, include: GitIgnoreSpec | None, exclude: GitIgnoreSpec | None, max_bytes: int) -> None:
        self._include = include
        self._exclude = exclude
        self._max_bytes = max_bytes
        self._files: set[int] = set()  # hashes of real paths: a tenth of the memory of the paths themselves
        self._folders: set[tuple[int, int]] = set()

    def run(self, paths: Iterable[str | Path]) -> Iterator[FoundFile | Refused]:
        for given in paths:
            path = os.path.abspath(given)  # noqa: PTH100 (Path.absolute keeps "..", resolve follows links)
            try:
                status = os.stat(path)  # noqa: PTH116
            except OSError as error:
                yield _refuse_error(path, error)
                continue
            except ValueError as error:  # a NUL in the path
                yield Refused(path=Path(path), code="not_found", reason=str(error))
                continue
            if stat.S_ISDIR(status.st_mode):
                yield from self._below(path)
            else:
                yield from self._file(path, os.path.realpath(path))

    def _below(self, root: str) -> Iterator[FoundFile | Refused]:
        stack = [_Folder(root, os.path.realpath(root), "", IgnoreRules.at_root())]
        while stack:
            folder = stack.pop()
            try:
                if not self._is_new(folder):
                    continue
                with os.scandir(folder.path) as entries:
                    names = sorted(entries, key=lambda entry: (entry.is_symlink(), os.fsencode(entry.name)))
            except OSError as error:
                yield _refuse_error(folder.path, error)
                continue
            rules = _rules_of(folder, names)
            deeper: list[_Folder] = []
            for entry in names:
                relative = folder.prefix + entry.name
                if _is_folder(entry):
                    if not self._passes_over(rules, relative + "/"):
                        deeper.append(_enter(folder, entry, relative + "/", rules))
                elif self._wants(rules, relative):
                    real = f"{folder.real}/{entry.name}"
                    yield from self._file(
                        entry.path, os.path.realpath(real) if entry.is_symlink() else real, relative
                    )
            stack.extend(reversed(deeper))

    def _is_new(self, folder: _Folder) -> bool:
        status = os.stat(folder.path)  # noqa: PTH116
        identity = (status.st_dev, status.st_ino)
        if identity in self._folders:
            return False
        self._folders.add(identity)
        return True

    def _passes_over(self, rules: IgnoreRules, relative: str) -> bool:
        return (self._exclude is not None and self._exclude.match_file(relative)) or rules.ignores(relative)

    def _wants(self, rules: IgnoreRules, relative: str) -> bool:
        if self._exclude is not None and self._exclude.match_file(relative):
            return False
        if self._include is not None:
            return self._include.match_file(relative)
        return not rules.ignores(relative)

    def _file(self, path: str, real: str, relative: str | None = None) -> Iterator[FoundFile | Refused]:
        """``relative`` is ``None`` for a file that was named itself."""
        if hash(real) in self._files:
            return
        if relative is not None and self._include is None and media_type.by_name(_shown(path)) is None:
            # Not marked as seen: whoever names it later wants it all the same.
            yield Refused(path=Path(path), code="unsupported", reason="no parser for this kind of file")
            return
        self._files.add(hash(real))
        try:
            status = os.stat(path)  # noqa: PTH116
        except OSError as error:
            yield _refuse_error(path, error)
            return
        if not stat.S_ISREG(status.st_mode):
            yield Refused(
                path=Path(path), code="not_a_file", reason=f"a {kind_of(status.st_mode)}, not a file"
            )
        elif status.st_size > self._max_bytes:
            reason = f"{status.st_size} bytes, more than the {self._max_bytes} allowed"
            yield Refused(path=Path(path), code="too_large", reason=reason)
        else:
            yield FoundFile(
                path=Path(path),
                source_uri=Path(path).as_uri(),
                size=status.st_size,
                modified_at=datetime.fromtimestamp(status.st_mtime, UTC),
            )


def kind_of(mode: int) -> str:
    """What a file's mode says it is, in a word."""
    kinds = {stat.S_IFDIR: "folder", stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket"}
    return kinds.get(stat.S_IFMT(mode), "device")


def _rules_of(folder: _Folder, entries: Sequence[os.DirEntry[str]]) -> IgnoreRules:
    if not any(entry.name == ".gitignore" for entry in entries):
        return folder.rules
    try:
        text = Path(folder.path, ".gitignore").read_bytes()[: 1 << 20].decode("utf-8", "surrogateescape")
    except OSError:
        return folder.rules
    return IgnoreRules(folder.rules, folder.prefix, text.splitlines())


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that points at itself
        return False


def _enter(parent: _Folder, entry: os.DirEntry[str], prefix: str, rules: IgnoreRules) -> _Folder:
    real = f"{parent.real}/{entry.name}"
    return _Folder(entry.path, os.path.realpath(real) if entry.is_symlink() else real, prefix, rules)


def _refuse_error(path: str, error: OSError) -> Refused:
    missing = isinstance(error, FileNotFoundError | NotADirectoryError)
    code = "not_found" if missing else "unreadable"
    return Refused(path=Path(path), code=code, reason=error.strerror or type(error).__name__)


def _shown(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "replace")
