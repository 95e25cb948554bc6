"""LeRobot's asynchronous policy server, which by itself neither loads plugins nor knows theirs.

    python -m lerobot_policy_motus.policy_server --host=127.0.0.1 --port=8080

It unpickles what clients send, as LeRobot's own does: serve only clients that you trust.
`motus serve` has no such need.
"""

from lerobot.async_inference import constants, policy_server
from lerobot.utils.import_utils import register_third_party_plugins

from motus_adapters.deployment.lerobot_files import POLICY_TYPE


def main() -> None:
    """Start the server with LeRobot's own options."""
    allow()
    policy_server.serve()


def allow() -> None:
    """Make LeRobot's server accept the policy type."""
    register_third_party_plugins()
    if POLICY_TYPE not in constants.SUPPORTED_POLICIES:
        constants.SUPPORTED_POLICIES.append(POLICY_TYPE)


if __name__ == "__main__":
    main()
