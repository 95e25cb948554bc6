"""`--env.type=motus`: our simulators as LeRobot sees them, and sharded training as it does it."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from motus_adapters import Policy, open_simulator, read_bundle
from motus_embodiments import MismatchError, UsageError

pytestmark = pytest.mark.skipif(
    find_spec("lerobot_policy_motus") is None,
    reason="pip install --no-deps -e adapters/lerobot_policy_motus",
)
needs_pusht = pytest.mark.skipif(
    find_spec("gym_pusht") is None, reason="gym-pusht is not installed"
)
needs_hil = pytest.mark.skipif(find_spec("gym_hil") is None, reason="gym-hil is not installed")


@pytest.fixture(scope="module")
def pusht(untrained, tmp_path_factory) -> Path:
    return untrained(tmp_path_factory.mktemp("p") / "pusht", "pusht", {"head": (96, 96)})


def opened(folder: Path):
    from lerobot.configs import PreTrainedConfig
    from lerobot.policies import get_policy_class, make_pre_post_processors
    from lerobot.utils.import_utils import register_third_party_plugins

    register_third_party_plugins()
    config = PreTrainedConfig.from_pretrained(folder, cli_overrides=["--device=cpu"])
    policy = get_policy_class(config.type).from_pretrained(folder, config=config)
    return policy, *make_pre_post_processors(config, pretrained_path=str(folder))


def environments(task: str, count: int = 1, **options):
    """As lerobot-eval makes them."""
    from lerobot.envs import make_env, make_env_config
    from lerobot.utils.import_utils import register_third_party_plugins

    register_third_party_plugins()
    config = make_env_config("motus", task=task, **options)
    return config, make_env(config, n_envs=count)["motus"][0]


@needs_pusht
def test_a_policy_does_there_what_it_does_here(pusht: Path):
    """Same simulator, seed and noise: the first chunk equals our own policy's to 1e-6."""
    from lerobot.envs.utils import env_to_policy_features, preprocess_observation

    config, started = environments("gym-pusht:PushT", 2, image_size=96)
    policy, before, after = opened(pusht)
    policy.reset()
    seen, _ = started.reset(seed=[3, 4])
    batch = preprocess_observation(seen)
    batch["task"] = list(started.call("task_description"))
    found = after(policy.predict_action_chunk(before(batch))).numpy()
    features = env_to_policy_features(config)
    assert features["observation.images.img"].shape == (3, 96, 96)
    assert features["action"].shape == (2,)
    assert config.fps == 10
    own, simulator = Policy.load(pusht), open_simulator("gym-pusht:PushT", 96)
    for row, seed in enumerate((3, 4)):
        simulator.reset(seed)
        there = simulator.observe()
        wanted = own.act(there.images, there.state, simulator.instruction, seed=0)
        np.testing.assert_allclose(found[row] / 512, wanted / 512, atol=1e-6)
    _, _, solved, over, _ = started.step(found[:, 0])
    assert not solved.any()
    assert not over.any()
    simulator.close()
    started.close()


@pytest.mark.parametrize(
    ("kind", "task", "card", "camera", "size", "scale"),
    [
        ("pusht", "PushT-v0", "pusht", "img", (96, 96), 512.0),  # px
        ("aloha", "AlohaTransferCube-v0", "aloha", "top", (480, 640), 1.0),  # rad
        ("metaworld", "drawer-open-v3", "sawyer-metaworld", "corner2", (480, 480), 1.0),  # cm
    ],
)
def test_lerobots_own_simulators_get_the_same_actions(
    untrained, tmp_path: Path, kind: str, task: str, card: str, camera: str, size, scale: float
):
    from lerobot.envs import make_env, make_env_config
    from lerobot.envs.utils import preprocess_observation

    if find_spec(kind if kind == "metaworld" else f"gym_{kind}") is None:
        pytest.skip(f"the simulator of --env.type={kind} is not installed")
    folder = untrained(tmp_path / "policy", card, {"head": size})
    policy, before, after = opened(folder)
    (started,) = next(iter(make_env(make_env_config(kind, task=task), n_envs=1).values())).values()
    seen, _ = started.reset(seed=[0])
    batch = preprocess_observation(seen) | {"task": ["push the block"]}
    policy.reset()
    found = after(policy.predict_action_chunk(before(batch)))[0].numpy()
    picture = seen["pixels"]["top"] if isinstance(seen["pixels"], dict) else seen["pixels"]
    state = seen["agent_pos"][0].astype(np.float32)
    wanted = Policy.load(folder).act({camera: picture[0]}, state, "push the block", seed=0)
    np.testing.assert_allclose(found / scale, wanted / scale, atol=1e-6)
    started.step(found[None, 0])
    started.close()


@needs_pusht
def test_another_control_rate_is_refused(untrained, tmp_path: Path):
    from lerobot.envs.utils import preprocess_observation

    _, started = environments("gym-pusht:PushT", image_size=96)
    seen, _ = started.reset(seed=[0])
    started.close()
    policy = untrained(tmp_path / "policy", "pusht", {"head": (96, 96)})
    _, before, _ = opened(policy)
    batch = preprocess_observation(seen) | {"task": ["push"]}
    before(dict(batch))
    batch["observation.control_rate"] *= 3
    with pytest.raises(MismatchError, match="30 Hz"):
        before(batch)


@needs_hil
def test_a_solved_episode_ends_and_the_next_begins():
    _, started = environments("gym-hil:PandaPickCube", image_size=32)
    started.reset(seed=[0])
    simulator = started.envs[0].unwrapped._simulator
    for _ in range(simulator.max_steps):
        _, reward, solved, _, told = started.step(simulator.expert()[None])
        if solved[0]:
            break
    assert solved.tolist() == [True]
    assert reward.tolist() == [1.0]
    assert told["final_info"]["is_success"].tolist() == [True]
    assert not simulator.success  # of the new episode
    assert started.render()[0].shape == (32, 32, 3)
    started.close()


@needs_pusht
def test_an_episode_that_takes_too_long_fails():
    _, started = environments("gym-pusht:PushT", image_size=32, episode_length=2)
    started.reset(seed=[0])
    rows = [started.step(np.full((1, 2), 256.0)) for _ in range(2)]
    assert [row[3].tolist() for row in rows] == [[False], [True]]
    assert rows[1][4]["final_info"]["is_success"].tolist() == [False]
    started.close()


def test_a_simulator_that_is_not_there():
    with pytest.raises(UsageError, match="no simulator named 'gym-pusht:Push'"):
        environments("gym-pusht:Push")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("generation", [1, 2], ids=["LeRobot 0.6.1's FSDP", "FSDP2"])
def test_two_processes_share_a_policy(pusht: Path, tmp_path: Path, generation: int):
    """Sharded, the loss is that of one process, each holds a part, and what is saved is whole."""
    script = Path(__file__).with_name("sharded_lerobot.py")
    given = [str(generation), str(pusht), str(tmp_path)]
    started = [subprocess.Popen([sys.executable, script, str(rank), *given]) for rank in range(3)]
    assert [process.wait(200) for process in started] == [0, 0, 0]
    (one, part), (two, rest), (alone, whole) = (
        map(float, (tmp_path / f"{rank}").read_text().split()) for rank in range(3)
    )
    assert one == pytest.approx(alone, rel=1e-5)
    assert two == pytest.approx(alone, rel=1e-5)
    # an unused parameter has no gradient alone, and zeros in a shared buffer
    assert part + rest == pytest.approx(whole, rel=0.05)
    assert max(part, rest) < 0.7 * whole
    before, saved = read_bundle(pusht).weights, read_bundle(tmp_path / "saved").weights
    assert before.keys() == saved.keys()
    assert all(torch.equal(before[key], saved[key]) for key in before)
