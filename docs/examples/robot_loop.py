"""Drive a robot with a policy behind `motus serve`; needs openpi-client and numpy, not motus."""

import math
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from openpi_client.websocket_client_policy import WebsocketClientPolicy


def drive(robot: Any, policy: WebsocketClientPolicy, task: str, latency: float = 0.1) -> None:
    """Move until robot.is_done(), and ask for the next chunk while the robot moves.

    robot.observe() gives {camera: uint8 [h, w, 3]} and [s]; robot.command(row) starts one step.
    """
    told = policy.get_server_metadata()
    period, execute = 1 / told["rate"], told["execute"]

    def query(left: Any, delay: int) -> dict[str, Any]:
        images, state = robot.observe()
        what = {"images": images, "state": state, "prompt": task, "rate": told["rate"]}
        return what | ({"previous": left, "delay": delay} if len(left) else {})

    def carry_out(rows: Any) -> None:
        for row in rows:
            if not robot.is_done():
                start = time.monotonic()
                robot.command(row)
                time.sleep(max(0.0, start + period - time.monotonic()))

    rows = policy.infer(query((), 0))["actions"]  # the robot stands and waits
    with ThreadPoolExecutor(1) as background:
        carry_out(rows[:execute])
        while not robot.is_done():
            left = rows[execute:]  # what the last chunk would do from now on
            delay = min(math.ceil(latency / period), execute, len(left))
            pending = background.submit(policy.infer, query(left, delay))
            carry_out(left[:delay])  # while the policy thinks
            rows = pending.result()["actions"]
            carry_out(rows[delay:execute])
