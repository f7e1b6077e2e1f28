"""Functions that do to a child process what a bad document can do; imported by children, too."""

import ctypes
import os
import signal
import sys
import time
from pathlib import Path


class Unloadable(Exception):
    """Pickles, and cannot be loaded again."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


class Panic(BaseException):
    """As raised by a library in Rust."""


def hang() -> None:
    while True:
        time.sleep(3600)


def spin(marker: str) -> None:
    Path(marker).write_text(str(os.getpid()))
    while True:
        pass


def exit_at_once(code: int) -> None:
    os._exit(code)


def segfault() -> None:
    ctypes.string_at(0)


def take_memory(megabytes: int) -> int:
    return len(bytearray(megabytes << 20))


def abort_as_rust_does() -> None:
    os.write(2, b"memory allocation of 8589934592 bytes failed")
    os.kill(os.getpid(), signal.SIGABRT)


def raise_unloadable() -> None:
    raise Unloadable("two", "words")


def panic() -> None:
    raise Panic("index out of bounds")


def print_much() -> str:
    print("noise on standard output " * 10_000, flush=True)
    os.write(1, b"and below Python")
    return "said"


def unpicklable() -> object:
    return lambda: None


def process_id() -> int:
    return os.getpid()


def environment() -> dict[str, str]:
    return dict(os.environ)


def loaded_modules() -> set[str]:
    return set(sys.modules)


def ignores_interrupts() -> bool:
    return signal.getsignal(signal.SIGINT) == signal.SIG_IGN and os.getsid(0) == os.getpid()
