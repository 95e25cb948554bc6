"""The commands of docs/benchmarks.md mean something to the LeRobot that is installed."""

import re
import shlex
from pathlib import Path

import pytest

DOC = Path(__file__).parents[2] / "docs" / "benchmarks.md"
NOT_THERE = "--policy.path="  # a trained policy; LeRobot reads its folder while it parses


def commands(program: str) -> list[list[str]]:
    blocks = re.findall(r"```bash.*?\n(.*?)```", DOC.read_text(), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith(f"{program} ")]


@pytest.mark.parametrize("arguments", commands("lerobot-eval"), ids=lambda a: a[1])
def test_an_evaluation_is_understood(arguments):
    draccus = pytest.importorskip("draccus")
    from lerobot.configs.eval import EvalPipelineConfig

    told = [argument for argument in arguments if not argument.startswith(NOT_THERE)]
    assert len(told) == len(arguments) - 1
    config = draccus.parse(EvalPipelineConfig, args=told)
    given = dict(argument.removeprefix("--").split("=") for argument in told)
    assert config.env.type == given["env.type"]
    assert config.env.task == given["env.task"]
    assert config.eval.n_episodes == int(given["eval.n_episodes"])


@pytest.mark.parametrize("arguments", commands("lerobot-train"), ids=lambda a: a[1])
def test_a_training_is_understood(arguments):
    draccus = pytest.importorskip("draccus")
    from lerobot.configs.train import TrainPipelineConfig

    import lerobot_policy_motus  # noqa: F401, registers the policy's type

    config = draccus.parse(TrainPipelineConfig, args=arguments)
    given = dict(argument.removeprefix("--").split("=") for argument in arguments)
    assert config.policy.type == "motus"
    assert config.policy.embodiment == given["policy.embodiment"]
    assert config.dataset.repo_id == given["dataset.repo_id"]


def test_the_four_benchmarks_are_there():
    kinds = {a.partition("=")[2] for c in commands("lerobot-eval") for a in c if "env.type" in a}
    assert kinds == {"robotwin", "libero", "vlabench", "metaworld"}


def test_the_named_tasks_are_lerobots_own():
    from lerobot.envs import robotwin, vlabench

    assert {"beat_block_hammer", "adjust_bottle"} <= set(robotwin.ROBOTWIN_TASKS)
    assert len(robotwin.ROBOTWIN_TASKS) == 50
    assert [len(vlabench.SUITE_TASKS[suite]) for suite in ("primitive", "composite")] == [21, 22]
    assert "select_fruit" in vlabench.SUITE_TASKS["primitive"]
