"""`motus serve`: a policy behind a socket."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from motus_cli.console import Console, Outcome
from motus_cli.options import Device
from motus_embodiments import UsageError

if TYPE_CHECKING:
    from motus_adapters import Actor

ACCESS, LIMITS = "Access", "Limits"


def serve(
    console: Console,
    policy: Annotated[Path | None, Argument(help="Exported policy")] = None,
    replay: Annotated[
        Path | None, Option("--replay", help="Dataset whose actions to play instead of a policy")
    ] = None,
    episode: Annotated[int, Option("--episode", min=0, help="Episode to replay")] = 0,
    device: Device = "auto",
    host: Annotated[
        str, Option("--host", help="Address to listen on", rich_help_panel=ACCESS)
    ] = "127.0.0.1",
    port: Annotated[
        int,
        Option("--port", min=0, max=65535, help="Port; 0 takes a free one", rich_help_panel=ACCESS),
    ] = 8000,
    lerobot_port: Annotated[
        int | None,
        Option(
            "--lerobot-port",
            min=0,
            max=65535,
            help="Also speak LeRobot's gRPC on this port, to this machine alone",
            rich_help_panel=ACCESS,
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        Option(
            "--token-file",
            help="File with the token that clients show; the variable MOTUS_TOKEN if left out",
            rich_help_panel=ACCESS,
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None, Option("--tls-cert", help="Certificate (PEM)", rich_help_panel=ACCESS)
    ] = None,
    tls_key: Annotated[
        Path | None, Option("--tls-key", help="Its private key (PEM)", rich_help_panel=ACCESS)
    ] = None,
    clients: Annotated[
        int, Option("--clients", min=1, help="Connections at a time", rich_help_panel=LIMITS)
    ] = 32,
    queue: Annotated[
        int,
        Option(
            "--queue",
            min=1,
            help="Queries under way; one more is answered busy",
            rich_help_panel=LIMITS,
        ),
    ] = 8,
    rate: Annotated[
        float,
        Option(
            "--rate",
            min=0,
            help="Queries a second of one client; 0 for any number",
            rich_help_panel=LIMITS,
        ),
    ] = 100.0,
    message: Annotated[
        float, Option("--message", min=0.01, help="Largest message, MB", rich_help_panel=LIMITS)
    ] = 16.0,
    deadline: Annotated[
        float,
        Option("--deadline", min=0.01, help="Seconds for an answer", rich_help_panel=LIMITS),
    ] = 10.0,
    grace: Annotated[
        float,
        Option(
            "--grace", min=0, help="Seconds to finish when told to stop", rich_help_panel=LIMITS
        ),
    ] = 10.0,
) -> Outcome:
    """Serve a policy to robots over a websocket.

    Speaks the protocol of openpi's client. /healthz, /readyz and /metrics answer plain HTTP.
    SIGTERM or Ctrl-C stops it when the answers under way are given.

    Example: motus serve policies/franka --port 8000
    """
    if (policy is None) == (replay is None):
        raise UsageError(
            "give a policy or a dataset to replay, one of the two",
            hint="motus serve policies/franka, or motus serve --replay data/pick",
        )
    from motus_adapters import Listen, ServerLimits, read_token
    from motus_adapters import serve as serve_actor

    where = Listen(host, port, read_token(token_file), tls_cert, tls_key, lerobot_port)
    if not where.is_loopback and tls_cert is None:
        console.note("without TLS the token and the pictures can be read on the way")

    def open_actor() -> "Actor":
        if replay is not None:
            from motus_adapters import ReplayActor

            return ReplayActor(replay, episode)
        from motus_adapters import Policy, PolicyActor

        assert policy is not None
        return PolicyActor(Policy.load(policy, device))

    report = serve_actor(
        open_actor,
        where,
        ServerLimits(message, clients, queue, rate, deadline, grace),
        on_ready=lambda address: console.note(f"ready at {address}"),
    )
    return Outcome(report)
