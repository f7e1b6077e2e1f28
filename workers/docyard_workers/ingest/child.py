"""The child's side of :mod:`docyard_workers.ingest.isolation`: calls functions for its parent.

Requests come on standard input and answers leave on what was standard output: a length of 8 bytes, then
a pickle. Both ends are this program, and nothing that a document says is ever unpickled.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
import signal
import struct
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

LENGTH = struct.Struct(">Q")
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a call came to; ``value`` is the result, the exception, or ``None`` when memory ran out."""

    kind: Literal["ready", "result", "error", "memory"]
    value: Any = None


def serve(parent: int, memory_bytes: int | None) -> None:
    """Answers calls until the parent closes its end; ends with the parent, whose process id is given."""
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    # What a parser prints must not reach the channel.
    with open(os.devnull, "r+b", buffering=0) as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 0)
        os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with(parent)
    _limit_memory(memory_bytes)
    _send(answers, Answer(kind="ready"))
    while header := requests.read(LENGTH.size):
        request = requests.read(LENGTH.unpack(header)[0])
        _forget_old_messages()
        _send(answers, _call(request))


def _call(request: bytes) -> Answer:
    try:
        function: Callable[..., Any]
        function, arguments = pickle.loads(request)  # noqa: S301 (written by the parent)
        del request
        answer = Answer(kind="result", value=function(*arguments))
        del arguments
        return answer
    except MemoryError:
        return Answer(kind="memory")
    except BaseException as error:  # noqa: BLE001 (a panic in Rust is no Exception)
        return Answer(kind="error", value=error)


def _send(answers: Any, answer: Answer) -> None:
    try:
        body = pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)
        if answer.kind == "error":
            pickle.loads(body)  # noqa: S301 (many exceptions pickle, and then do not load)
    except MemoryError:
        body = pickle.dumps(Answer(kind="memory"))
    except Exception as error:  # noqa: BLE001 (whatever an object's own pickling raises)
        told = answer.value if answer.kind == "error" else error
        body = pickle.dumps(Answer(kind="error", value=RuntimeError(f"{type(told).__name__}: {told}"[:500])))
    answers.write(LENGTH.pack(len(body)))
    answers.write(body)
    answers.flush()


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _limit_memory(memory_bytes: int | None) -> None:
    if memory_bytes is not None:
        with contextlib.suppress(ValueError, OSError):  # macOS knows the limit and does not keep it
            resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


def _forget_old_messages() -> None:
    # Standard error is the parent's temporary file; only what the last call said there matters.
    with contextlib.suppress(OSError):
        os.lseek(2, 0, os.SEEK_SET)
        os.ftruncate(2, 0)
