"""``python -m docyard.demo``."""

from __future__ import annotations

import sys
from functools import partial

from docyard.cli.command import ending
from docyard.demo.show import DemoInvocation, show

if __name__ == "__main__":
    invocation = DemoInvocation()
    sys.exit(ending(invocation, partial(show, invocation)))
