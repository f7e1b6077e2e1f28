"""The nursery's own process: docyard imported, one thread, nothing open; it forks a child for each attempt.

A fork of it is ready in a few milliseconds, where a new interpreter takes a third of a second. The worker
itself must not fork: it has threads and connections.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import signal
import socket
import sys
import traceback
from contextlib import suppress

from docyard_workers.process.isolation.child import live

_PR_SET_PDEATHSIG = 1


def serve(parent: int) -> None:
    """Fork when the worker says so, and tell it of every child that ended; ends with the worker."""
    control = socket.socket(fileno=os.dup(0))
    _no_input()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the worker's business
    _die_with(parent)
    wakes, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    gc.collect()
    gc.freeze()  # so that no child's collector touches, and copies, what they share
    children: dict[int, int] = {}
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        selector.register(wakes, selectors.EVENT_READ)
        while True:
            ready = {key.fd for key, _ in selector.select()}
            if wakes in ready:
                os.read(wakes, 4096)
            if control.fileno() in ready:
                data, sockets, _, _ = socket.recv_fds(control, 65536, 64)
                if not data:
                    _end(children)
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    _obey(json.loads(line), sockets, children, (control, selector, wakes, wake))
            _reap(control, children)


def _obey(
    order: dict[str, int],
    sockets: list[int],
    children: dict[int, int],
    ours: tuple[socket.socket, selectors.BaseSelector, int, int],
) -> None:
    if "kill" in order:
        for pid, number in children.items():
            if number == order["kill"]:
                _kill(pid)
        return
    channel = sockets.pop(0)
    nursery = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        os.close(channel)
        children[pid] = order["fork"]
        return
    try:
        os.setsid()  # what it starts can be killed with it
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        control, selector, *pipes = ours
        selector.close()
        control.close()
        for pipe in pipes:
            os.close(pipe)
        _die_with(nursery)
        live(socket.socket(fileno=channel))
    except BaseException:  # noqa: BLE001 - nothing of the nursery's own loop may run in a child
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(1)


def _reap(control: socket.socket, children: dict[int, int]) -> None:
    while children:
        # Seen and not yet waited for: the number of its group is still its own.
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if found is None:
            return
        _kill(found.si_pid)
        _, status = os.waitpid(found.si_pid, 0)
        number = children.pop(found.si_pid, None)
        if number is not None:
            ended = {"ended": number, "code": os.waitstatus_to_exitcode(status)}
            with suppress(OSError):  # the worker is gone; the next read says so
                control.sendall(json.dumps(ended).encode() + b"\n")


def _end(children: dict[int, int]) -> None:
    for pid in children:
        _kill(pid)
    os._exit(0)


def _kill(pid: int) -> None:
    for kill in (os.killpg, os.kill):  # it may not lead a group yet
        with suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def _no_input() -> None:
    with open(os.devnull, "rb", buffering=0) as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 0)


def _die_with(parent: int) -> None:
    # Elsewhere the end of their sockets tells them.
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)
