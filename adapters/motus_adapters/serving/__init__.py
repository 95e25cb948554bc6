"""A policy behind a socket: websocket as openpi speaks it, and LeRobot's asynchronous gRPC."""

from motus_adapters.serving.actor import Actor, PolicyActor, Query, Session
from motus_adapters.serving.limits import Listen, ServerLimits, read_token
from motus_adapters.serving.replay import ReplayActor
from motus_adapters.serving.run import ServeReport, serve

__all__ = [
    "Actor",
    "Listen",
    "PolicyActor",
    "Query",
    "ReplayActor",
    "ServeReport",
    "ServerLimits",
    "Session",
    "read_token",
    "serve",
]
