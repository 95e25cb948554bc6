"""How an experiment's command ends: done, an error that a user can mend, or interrupted."""

import sys
from collections.abc import Callable

from motus_embodiments import MotusError


def exit_code(work: Callable[[], None]) -> int:
    """Do the work; 0, or the exit code of what ended it, told on stderr."""
    try:
        work()
    except MotusError as error:
        sys.stderr.write(f"error: {error.message}\n\nhint: {error.hint}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command goes on\n")
        return 130
    return 0
