"""LeRobot's own commands with our bundles: train, evaluate, serve; and the same actions."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from motus_adapters import Policy, read_bundle
from motus_embodiments import DataError, MismatchError, UsageError

pytestmark = pytest.mark.skipif(
    find_spec("lerobot_policy_motus") is None,
    reason="pip install --no-deps -e adapters/lerobot_policy_motus",
)
BIN = Path(sys.executable).parent
TOP = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
PICTURE = np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8)


def command(name: str, *options: str) -> str:
    """Run one of LeRobot's commands; its output."""
    ran = subprocess.run(
        [BIN / name, *options],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "MUJOCO_GL": "egl"},
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return ran.stdout + ran.stderr


def train(out: Path, dataset: Path, *more: str) -> Path:
    command(
        "lerobot-train",
        "--policy.device=cpu",
        "--policy.push_to_hub=false",
        "--dataset.repo_id=local/squares",
        f"--dataset.root={dataset}",
        "--dataset.video_backend=pyav",
        "--batch_size=4",
        "--num_workers=0",
        "--save_freq=3",
        "--env_eval_freq=0",
        "--wandb.enable=false",
        f"--output_dir={out}",
        *more,
    )
    return out / "checkpoints" / "last" / "pretrained_model"


def evaluate(bundle: Path, out: Path, *options: str) -> dict[str, object]:
    command(
        "lerobot-eval",
        f"--policy.path={bundle}",
        "--policy.device=cpu",
        "--eval.n_episodes=2",
        "--eval.batch_size=2",
        "--eval.use_async_envs=false",
        f"--output_dir={out}",
        *options,
    )
    return json.loads((out / "eval_info.json").read_text())


@pytest.fixture(scope="module")
def pusht(untrained, tmp_path_factory) -> Path:
    return untrained(tmp_path_factory.mktemp("p") / "pusht", "pusht", {"head": (96, 96)})


@pytest.fixture(scope="module")
def aloha(untrained, tmp_path_factory) -> Path:
    return untrained(tmp_path_factory.mktemp("p") / "aloha", "aloha", {"head": (480, 640)})


@pytest.fixture
def loaded(pusht: Path):
    """A bundle as lerobot-eval opens it."""
    return open_in_lerobot(pusht)


def open_in_lerobot(folder: Path):
    from lerobot.configs import PreTrainedConfig
    from lerobot.policies import get_policy_class, make_pre_post_processors
    from lerobot.utils.import_utils import register_third_party_plugins

    register_third_party_plugins()
    config = PreTrainedConfig.from_pretrained(folder, cli_overrides=["--device=cpu"])
    policy = get_policy_class(config.type).from_pretrained(folder, config=config)
    before, after = make_pre_post_processors(config, pretrained_path=str(folder))
    return policy, before, after


def observation(picture: np.ndarray, state: np.ndarray, key: str) -> dict[str, object]:
    """What lerobot-eval makes of a simulator's observation."""
    return {
        key: torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255,
        "observation.state": torch.from_numpy(state.astype(np.float32))[None],
        "task": ["push the block"],
    }


@pytest.mark.parametrize("key", ["observation.image", "observation.images.img"])
def test_actions_equal_our_own(loaded, pusht: Path, key: str):
    policy, before, after = loaded
    own, state = Policy.load(pusht), np.array([200.5, 311.25])
    policy.reset()
    seen = before(observation(PICTURE, state, key))
    first = [after(policy.select_action(seen))[0].numpy() for _ in range(3)]
    chunk = own.act({"img": PICTURE}, state, "push the block", seed=0)
    again = own.act({"img": PICTURE}, state, "push the block", seed=1)
    wanted = [chunk[0], chunk[1], again[0]]  # two rows a chunk, then the next seed
    np.testing.assert_allclose(first, wanted, atol=1e-6 * 512)  # px
    np.testing.assert_allclose(np.array(first) / 512, np.array(wanted) / 512, atol=1e-6)


def test_the_processors_hold_observations_to_the_contract(loaded):
    _, before, _ = loaded
    good = observation(PICTURE, np.array([200.0, 300.0]), "observation.image")
    before(good)
    for key, value, says in (
        ("observation.state", torch.zeros(1, 3), "3 channels"),
        ("observation.state", torch.full((1, 2), 9000.0), "allows"),
        ("observation.image", torch.zeros(1, 3, 96, 192), "another shape"),
    ):
        with pytest.raises(DataError, match=says):
            before({**good, key: value})
    with pytest.raises(DataError, match="no picture"):
        before({k: v for k, v in good.items() if k != "observation.image"})


def test_saved_and_loaded_again(loaded, pusht: Path, tmp_path: Path):
    policy, before, after = loaded
    for part in (policy, before, after):
        part.save_pretrained(tmp_path)
    assert Policy.load(tmp_path).config == Policy.load(pusht).config
    seen = observation(PICTURE, np.array([200.0, 300.0]), "observation.image")
    wanted = policy.predict_action_chunk(before(seen))
    other, again, _ = open_in_lerobot(tmp_path)
    policy.reset()
    torch.testing.assert_close(other.predict_action_chunk(again(seen)), wanted)
    torch.testing.assert_close(policy.predict_action_chunk(before(seen)), wanted)
    weights, saved = read_bundle(pusht).weights, read_bundle(tmp_path).weights
    assert all(torch.equal(weights[key], saved[key]) for key in {*weights, *saved})


def test_a_changed_bundle_is_refused(pusht: Path, tmp_path: Path):
    for file in pusht.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    processors = (tmp_path / "policy_preprocessor.json").read_text()
    (tmp_path / "policy_preprocessor.json").write_text(processors.replace("0.3", "0.4", 1))
    with pytest.raises(DataError, match=r"policy_preprocessor\.json"):
        open_in_lerobot(tmp_path)


def test_what_cannot_be_changed_is_refused(pusht: Path):
    from lerobot.configs import PreTrainedConfig
    from lerobot_policy_motus.modeling_motus import MotusPolicy

    options = ["--device=cpu", "--rate=50"]
    config = PreTrainedConfig.from_pretrained(pusht, cli_overrides=options)
    with pytest.raises(MismatchError, match="cannot be changed"):
        MotusPolicy.from_pretrained(pusht, config=config)
    with pytest.raises(UsageError, match="nothing says for which"):
        MotusPolicy(PreTrainedConfig.get_choice_class("motus")(device="cpu"))


def test_lerobots_own_loop_for_robots(loaded, pusht: Path):
    from lerobot.rollout.inference import SyncInferenceEngine

    policy, before, after = loaded
    features = {
        "observation.state": {"dtype": "float32", "shape": (2,), "names": ["x", "y"]},
        "observation.images.img": {"dtype": "image", "shape": (96, 96, 3), "names": None},
        "action": {"dtype": "float32", "shape": (2,), "names": ["x", "y"]},
    }
    engine = SyncInferenceEngine(
        policy, before, after, features, ["x", "y"], "push the block", "cpu", "pusher"
    )
    engine.reset()
    seen = {
        "observation.state": np.array([200.0, 300.0], np.float32),
        "observation.images.img": PICTURE,
    }
    own = Policy.load(pusht).act(
        {"img": PICTURE}, np.array([200.0, 300.0]), "push the block", seed=0
    )
    np.testing.assert_allclose(engine.get_action(seen).numpy(), own[0], atol=1e-6 * 512)


@pytest.mark.skipif(find_spec("grpc") is None, reason="lerobot[async] is not installed")
def test_lerobots_asynchronous_server(pusht: Path, tmp_path: Path, monkeypatch):
    import pickle

    monkeypatch.chdir(tmp_path)  # LeRobot writes its log into ./logs when it is imported

    from lerobot.async_inference import policy_server
    from lerobot.async_inference.configs import PolicyServerConfig
    from lerobot.async_inference.helpers import RemotePolicyConfig, TimedObservation
    from lerobot_policy_motus.policy_server import allow

    allow()
    features = {
        "observation.state": {"dtype": "float32", "shape": (2,), "names": ["x", "y"]},
        "observation.images.img": {"dtype": "image", "shape": (96, 96, 3), "names": None},
    }
    server = policy_server.PolicyServer(PolicyServerConfig())
    server.shutdown_event.clear()
    wish = RemotePolicyConfig("motus", str(pusht), features, 8, "cpu")

    class Context:
        def peer(self) -> str:
            return "test"

    class Request:
        data = pickle.dumps(wish)

    server.SendPolicyInstructions(Request(), Context())
    raw = {"x": 200.0, "y": 300.0, "img": PICTURE, "task": "push the block"}
    timed = TimedObservation(timestamp=0.0, timestep=0, observation=raw, must_go=True)
    found = np.stack([step.action.numpy() for step in server._predict_action_chunk(timed)])
    own = Policy.load(pusht).act({"img": PICTURE}, np.array([200.0, 300.0]), "push the block")
    np.testing.assert_allclose(found, own, atol=1e-6 * 512)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory) -> Path:
    """A LeRobot dataset that motus did not write: pixels, and LeRobot's own camera key."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    root = tmp_path_factory.mktemp("d") / "foreign"
    numbers = {"dtype": "float32", "shape": (2,), "names": ["x", "y"]}
    features = {
        "observation.image": {
            "dtype": "image",
            "shape": (96, 96, 3),
            "names": ["height", "width", "channels"],
        },
        "observation.state": numbers,
        "action": numbers,
    }
    dataset = LeRobotDataset.create(
        "local/foreign", fps=10, features=features, root=root, use_videos=False
    )
    for episode in range(2):
        for step in range(12):
            at = np.array([100.0 + 10 * step, 200.0 + 50 * episode], np.float32)
            frame = {"observation.image": PICTURE, "observation.state": at, "action": at + 10}
            dataset.add_frame(frame | {"task": "push the block"})
        dataset.save_episode()
    dataset.finalize()
    return root


def test_any_lerobot_dataset_serves_with_a_card(foreign: Path):
    from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata
    from lerobot_policy_motus.dataset import card_and_layout, fit_space

    meta = LeRobotDatasetMetadata("local/foreign", root=foreign)
    with pytest.raises(UsageError, match="which robot"):
        card_and_layout(meta, None)
    with pytest.raises(UsageError, match="none of the cameras"):
        card_and_layout(
            SimpleNamespace(root=foreign, camera_keys=["observation.images.x"]), "pusht"
        )
    card, layout = card_and_layout(meta, "pusht")
    assert layout.boxes == {"head": (0, 0, 96, 96)}
    space = fit_space(meta, card, [0, 1, 2])
    told = np.array([100 + 10 * np.arange(12).mean(), 225]) / 1000  # px to m
    np.testing.assert_allclose(space.state.mean, told, atol=1e-6)
    assert space.action.mean[0] > space.state.mean[0]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_lerobot_trains_on_any_dataset(foreign: Path, tmp_path: Path):
    options = ("--policy.type=motus", "--policy.embodiment=pusht", "--policy.chunk_size=4")
    made = train(tmp_path / "run", foreign, *options, "--steps=3")
    policy = Policy.load(made)
    assert policy.config.window.action_steps == 4
    state = np.array([150.0, 220.0])
    assert policy.act({"img": PICTURE}, state, "push the block").shape == (4, 2)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_lerobot_trains_resumes_and_evaluates_a_policy(squares: Path, pusht: Path, tmp_path: Path):
    made = train(tmp_path / "one", squares, "--policy.type=motus", "--steps=3")
    policy = Policy.load(made)
    assert policy.card.name == "pusht"
    assert policy.config.instruction == "push the block"
    config = f"--config_path={made / 'train_config.json'}"
    command("lerobot-train", config, "--resume=true", "--steps=6")
    after = Policy.load(tmp_path / "one" / "checkpoints" / "000006" / "pretrained_model")
    key = "network.action.head.weight"
    assert not torch.equal(policy.model.state_dict()[key], after.model.state_dict()[key])
    report = evaluate(made, tmp_path / "eval", "--env.type=pusht", "--env.episode_length=6")
    assert report["overall"]["n_episodes"] == 2
    tuned = train(tmp_path / "two", squares, f"--policy.path={made}", "--steps=3")
    assert Policy.load(tuned).config == policy.config


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_lerobot_evaluates_bundles_in_simulators(pusht: Path, aloha: Path, tmp_path: Path):
    options = ("--env.type=pusht", "--env.episode_length=6", "--policy.execute=4")
    assert evaluate(pusht, tmp_path / "pusht", *options)["overall"]["n_episodes"] == 2
    options = ("--env.type=aloha", "--env.task=AlohaTransferCube-v0", "--env.episode_length=6")
    assert evaluate(aloha, tmp_path / "aloha", *options)["overall"]["n_episodes"] == 2
    options = ("--env.type=motus", "--env.task=gym-pusht:PushT", "--env.episode_length=6")
    assert evaluate(pusht, tmp_path / "motus", *options)["overall"]["n_episodes"] == 2
