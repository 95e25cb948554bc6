"""What a server allows: where it listens, who may ask, how much and how often."""

import ipaddress
import os
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from motus_embodiments import DataError, MotusError, UsageError

TOKEN_VARIABLE = "MOTUS_TOKEN"
SHORTEST_TOKEN = 16
MEGABYTE = 2**20


class BusyError(MotusError):
    """The queue is full; ask again."""

    code = "busy"


class DeadlineError(MotusError):
    """No answer in time."""

    code = "deadline"


class RateError(MotusError):
    """One client asks more often than it may."""

    code = "rate"


@dataclass(frozen=True)
class ServerLimits:
    """How much a server takes on.

    Attributes:
        message: Largest message in MB.
        clients: Connections at a time.
        queue: Queries that wait or are worked on; one more is answered `busy`.
        rate: Queries a second of one client; 0 for any number.
        deadline: Seconds in which a query has to be answered and the answer taken.
        grace: Seconds for the queries under way when the server is told to stop.
    """

    message: float = 16.0
    clients: int = 32
    queue: int = 8
    rate: float = 100.0
    deadline: float = 10.0
    grace: float = 10.0

    @property
    def message_bytes(self) -> int:
        """Largest message in bytes."""
        return int(self.message * MEGABYTE)


@dataclass(frozen=True)
class Listen:
    """Where a server listens, and whom it lets in.

    Attributes:
        host: Address to bind.
        port: 0 for any free one.
        token: What a client has to show; None lets everyone in who can reach the address.
        certificate: PEM file of the server, for TLS.
        key: PEM file of its private key.
        lerobot_port: Where LeRobot's gRPC is spoken, on the loopback device alone.

    Raises:
        UsageError: When others could reach the server without a token, or half of TLS is given.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    certificate: Path | None = None
    key: Path | None = None
    lerobot_port: int | None = None

    def __post_init__(self) -> None:
        if not self.is_loopback and self.token is None:
            raise UsageError(
                f"{self.host} can be reached by others, and no token is set",
                hint=f"--token-file FILE or the variable {TOKEN_VARIABLE}, "
                "or leave --host out and come in through ssh -L",
            )
        if (self.certificate is None) != (self.key is None):
            raise UsageError(
                "TLS needs a certificate and its key", hint="--tls-cert FILE --tls-key FILE"
            )

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def tls(self) -> ssl.SSLContext | None:
        """The server's side of TLS, None without a certificate.

        Raises:
            DataError: When the files are no certificate and key that belong together.
        """
        if self.certificate is None or self.key is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise DataError(
                f"{self.certificate} and {self.key} are no certificate and key: {error}",
                hint="both are PEM files, the key without a password",
                where=str(self.certificate),
            ) from error
        return context


def read_token(file: Path | None) -> str | None:
    """The token of a file, else of the environment, else none.

    Raises:
        DataError: When it is too short to be a secret, or no plain ASCII.
    """
    where = str(file) if file else f"the variable {TOKEN_VARIABLE}"
    token = file.read_text(errors="replace") if file else os.environ.get(TOKEN_VARIABLE)
    if token is None:
        return None
    token = token.strip()
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable():
        raise DataError(
            f"the token of {where} is no secret: {len(token)} characters, "
            f"at least {SHORTEST_TOKEN} plain ones are due",
            hint="openssl rand -hex 16 makes one",
            where=where,
        )
    return token


class Rate:
    """A token bucket that holds what one second allows.

    Args:
        rate: Queries a second, 0 for any number.
        clock: Seconds.
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = rate, clock
        self._left, self._last = max(1.0, rate), clock()

    def take(self) -> None:
        """Count one query.

        Raises:
            RateError: When it came too early.
        """
        if not self._rate:
            return
        now = self._clock()
        self._left = min(max(1.0, self._rate), self._left + (now - self._last) * self._rate)
        self._last = now
        if self._left < 1:
            raise RateError(
                f"more than {self._rate:g} queries a second",
                hint=f"ask again in {(1 - self._left) / self._rate:.3f} s",
            )
        self._left -= 1
