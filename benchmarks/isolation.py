"""Environments of their own for what docyard is compared with, under ``benchmarks/.environments``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent / ".environments"


class NotInstallable(Exception):
    """An environment cannot be made here; the message says why."""


def python_environment(name: str, requirements: Path) -> Path:
    """The Python of a virtual environment with these requirements, made when they are new."""
    folder = FOLDER / name
    python = folder / "bin" / "python"
    if _is_new(folder, requirements):
        _run(name, [sys.executable, "-m", "venv", "--clear", str(folder)])
        _run(name, [str(python), "-m", "pip", "install", "--quiet", "--requirement", str(requirements)])
        _remember(folder, requirements)
    return python


def node_environment(name: str, package: Path) -> Path:
    """The folder with the ``node_modules`` of this ``package.json``, made when it is new."""
    folder = FOLDER / name
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise NotInstallable(f"{name} needs node and npm, which are not here.")
    if _is_new(folder, package):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(package, folder / "package.json")
        # No lock file: it records where packages were downloaded from.
        _run(name, ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--silent"], folder)
        _remember(folder, package)
    return folder


def _is_new(folder: Path, wanted: Path) -> bool:
    kept = folder / "installed"
    return not kept.exists() or kept.read_text() != wanted.read_text()


def _remember(folder: Path, wanted: Path) -> None:
    (folder / "installed").write_text(wanted.read_text())


def _run(name: str, command: list[str], folder: Path | None = None) -> None:
    environment = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise NotInstallable(f"{name} could not be installed: {lines[-1] if lines else 'no reason given'}")
