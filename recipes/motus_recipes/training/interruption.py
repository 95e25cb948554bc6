"""Ctrl-C and SIGTERM while steps are computed: noted, and looked at after each step."""

import signal
import threading
from types import FrameType
from typing import Any, Self


class Interruption:
    """Whether this process was told to end; a second signal ends it at once.

    Signals reach the main thread alone, and one that is ignored stays so.

    Attributes:
        seen: Whether a signal has come.
    """

    def __init__(self) -> None:
        self.seen = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                before = signal.getsignal(number)
                if before not in (signal.SIG_IGN, None):
                    self._before[number] = before
                    signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _note(self, _signal: int, _frame: FrameType | None) -> None:
        if self.seen:
            raise KeyboardInterrupt
        self.seen = True
