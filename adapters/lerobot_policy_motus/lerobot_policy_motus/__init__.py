"""Motus policies in LeRobot, which imports this package because of its name."""

from lerobot_policy_motus.configuration_motus import MotusConfig
from lerobot_policy_motus.environment import MotusEnv
from lerobot_policy_motus.processor_motus import ObservationStep

__all__ = ["MotusConfig", "MotusEnv", "ObservationStep"]
