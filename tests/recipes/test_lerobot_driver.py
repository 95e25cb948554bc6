"""Policies of LeRobot's, by path, under our protocol."""

import json
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packaging.version import Version

from motus_adapters import Observation, open_simulator
from motus_embodiments import DataError, MismatchError, UsageError
from motus_recipes import evaluate
from motus_recipes.evaluation.driving import make_driver, run_episode

SIDE = 48
IMG = "observation.images.img"
ENV = "toy:Slide"


@pytest.fixture(scope="module")
def beside():
    """Modules beside this one."""
    sys.path.insert(0, str(Path(__file__).parent))
    yield
    sys.path.remove(str(Path(__file__).parent))


@pytest.fixture(scope="module")
def toys(beside):
    import toy_sim

    return toy_sim


@pytest.fixture(scope="module")
def vlas(beside):
    import tiny_vlas

    return tiny_vlas


SMALL: dict[str, dict[str, Any]] = {
    "act": {
        "chunk_size": 4,
        "n_action_steps": 3,
        "dim_model": 32,
        "n_heads": 2,
        "dim_feedforward": 32,
        "n_encoder_layers": 1,
        "use_vae": False,
        "pretrained_backbone_weights": None,
    },
    "diffusion": {
        "horizon": 8,
        "n_action_steps": 2,
        "down_dims": (16, 32),
        "diffusion_step_embed_dim": 16,
        "num_inference_steps": 2,
        "use_group_norm": True,
        "pretrained_backbone_weights": None,
    },
}


def save(
    folder: Path, kind: str, key: str, size: tuple[int, int], width: int, **given: Any
) -> Path:
    """A small LeRobot policy with random weights, saved as lerobot-train saves one."""
    from lerobot.configs import FeatureType, PolicyFeature
    from lerobot.policies import get_policy_class, make_policy_config, make_pre_post_processors

    options = given or SMALL[kind]
    number = PolicyFeature(type=FeatureType.STATE, shape=(width,))
    config = make_policy_config(
        kind,
        device="cpu",
        push_to_hub=False,
        input_features={
            "observation.state": number,
            key: PolicyFeature(type=FeatureType.VISUAL, shape=(3, *size)),
        },
        output_features={"action": PolicyFeature(type=FeatureType.ACTION, shape=(width,))},
        **options,
    )
    statistics = {
        name: {
            "mean": torch.full(shape, 0.3),
            "std": torch.full(shape, 0.2),
            "min": torch.zeros(shape),
            "max": torch.full(shape, 400.0 if width == 2 else 1.0),
            "q01": torch.zeros(shape),
            "q99": torch.full(shape, 400.0 if width == 2 else 1.0),
        }
        for name, shape in (
            ("observation.state", (width,)),
            ("action", (width,)),
            (key, (3, 1, 1)),
        )
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        policy = get_policy_class(kind)(config)
    if not given:  # as in configurations on the hub: opening it would download a backbone
        policy.config.pretrained_backbone_weights = "ResNet18_Weights.IMAGENET1K_V1"
    for part in (policy, *make_pre_post_processors(config, dataset_stats=statistics)):
        part.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def act(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("p") / "act"
    return save(folder, "act", "observation.image", (SIDE, SIDE), 2)


@pytest.fixture(scope="module")
def diffusion(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("p") / "diffusion"
    return save(folder, "diffusion", IMG, (SIDE, SIDE), 2)


@pytest.fixture(scope="module")
def xvla(vlas, tmp_path_factory) -> Path:
    at = tmp_path_factory.mktemp("p")
    return save(at / "xvla", "xvla", IMG, (SIDE, SIDE), 2, **vlas.xvla(at / "words"))


@pytest.fixture(scope="module")
def pi05(vlas, tmp_path_factory):
    at = tmp_path_factory.mktemp("p")
    with pytest.MonkeyPatch.context() as patch:
        options = vlas.pi05(at / "words", patch)
        yield save(at / "pi05", "pi05", IMG, (SIDE, SIDE), 2, **options)


@pytest.fixture(scope="module")
def smolvla(vlas, tmp_path_factory) -> Path:
    at = tmp_path_factory.mktemp("p")
    return save(at / "smolvla", "smolvla", IMG, (SIDE, SIDE), 2, **vlas.smolvla(at / "words"))


def skip_unless_it_runs(kind: str, vlas) -> None:
    if kind == "smolvla":
        pytest.importorskip("num2words", reason="SmolVLA wants num2words")
    limit = vlas.TOO_NEW.get(kind)
    if limit and Version(version("transformers")) >= Version(limit):
        pytest.skip(f"LeRobot 0.6.1's {kind} wants transformers below {limit}")


def lerobots_own(folder: Path, observations: list[Observation], seed: int) -> np.ndarray:
    """The actions that LeRobot's own evaluation loop would take, from the same observations."""
    from lerobot.configs import PreTrainedConfig
    from lerobot.envs import preprocess_observation
    from lerobot.policies import get_policy_class, make_pre_post_processors

    config = PreTrainedConfig.from_pretrained(folder)
    if hasattr(config, "pretrained_backbone_weights"):
        config.pretrained_backbone_weights = None
    policy = get_policy_class(config.type).from_pretrained(folder, config=config)
    before, after = make_pre_post_processors(config, pretrained_path=str(folder))
    single = "observation.image" in config.input_features
    torch.manual_seed(seed)
    policy.reset()
    rows = []
    for seen in observations:
        picture = seen.images["img"][None]
        raw = {"pixels": picture if single else {"img": picture}, "agent_pos": seen.state[None]}
        batch = preprocess_observation(raw) | {"task": ["push the block"]}
        with torch.inference_mode():
            rows.append(after(policy.select_action(before(batch)))[0].numpy())
    return np.stack(rows)


@pytest.mark.parametrize("kind", ["act", "diffusion", "pi05", "smolvla", "xvla"])
def test_actions_are_those_of_lerobots_own_loop(kind, toys, vlas, request):
    skip_unless_it_runs(kind, vlas)
    folder = request.getfixturevalue(kind)
    simulator = toys.slide(ENV)
    driver = make_driver(f"lerobot:{folder}", simulator, "cpu")
    seen, rows = [], []
    simulator.reset(5)
    driver.reset(7)
    for _ in range(5):
        seen.append(simulator.observe())
        rows.append(driver.actions(simulator, seen[-1])[0])
        simulator.step(rows[-1])
    np.testing.assert_allclose(np.stack(rows), lerobots_own(folder, seen, 7), rtol=1e-5, atol=1e-4)
    assert np.ptp(rows, axis=0).max() > 0


def copied(folder: Path, to: Path, **changes: Any) -> Path:
    """The same policy with other values in its configuration."""
    to.mkdir()
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    config = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps(config | changes))
    return to


@pytest.mark.parametrize("kind", ["pi05", "xvla"])
def test_one_tuned_from_another_sees_what_it_was_tuned_on(
    kind, toys, vlas, request, tmp_path: Path
):
    """It declares the state, the cameras and the picture size of the one that it was tuned from."""
    skip_unless_it_runs(kind, vlas)
    picture = {"type": "VISUAL", "shape": [3, 224, 224]}
    state = {"type": "STATE", "shape": [32]}
    own, other = "observation.images.base_0_rgb", "observation.images.left_wrist_0_rgb"
    wishes = {"observation.state": state, own: picture, other: picture}
    given = request.getfixturevalue(kind)
    folder = copied(given, tmp_path / "tuned", input_features=wishes)
    file = folder / "policy_preprocessor.json"
    steps = json.loads(file.read_text())
    assert steps["steps"][0]["registry_name"] == "rename_observations_processor"
    steps["steps"][0]["config"]["rename_map"] = {IMG: own}
    file.write_text(json.dumps(steps))

    simulator = toys.slide(ENV)
    simulator.reset(5)
    seen = simulator.observe()
    wide = Observation({"img": np.repeat(seen.images["img"], 2, axis=1)}, seen.state)
    driver = make_driver(f"lerobot:{folder}", simulator, "cpu")
    driver.reset(7)
    found = np.stack([driver.actions(simulator, at)[0] for at in (wide, wide)])
    np.testing.assert_allclose(found, lerobots_own(folder, [wide, wide], 7), rtol=1e-5, atol=1e-4)

    shown = json.loads((given / "config.json").read_text())["input_features"][IMG]
    for name, wanted in (("alone", {other: shown}), ("hidden", {**wishes, "observation.x": state})):
        asks = copied(folder, tmp_path / name, input_features={"observation.state": state} | wanted)
        with pytest.raises(MismatchError, match="wants 'observation"):
            make_driver(f"lerobot:{asks}", simulator, "cpu")


def test_weights_that_lerobot_leaves_out_are_told(toys, pi05: Path, tmp_path: Path, capsys):
    """LeRobot's pi0.5 goes on with random weights."""
    from safetensors.torch import load_file, save_file

    folder = copied(pi05, tmp_path / "broken")
    weights = load_file(folder / "model.safetensors")
    name = "model.action_in_proj.bias"
    for changed in (
        {key: value for key, value in weights.items() if key != name},
        weights | {name: torch.zeros(3)},
        {f"other.{key}": value for key, value in weights.items()},
    ):
        save_file(changed, folder / "model.safetensors")
        with pytest.raises(DataError, match=r"has no '|did not take '"):
            make_driver(f"lerobot:{folder}", toys.slide(ENV), "cpu")
    (folder / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"no model\.safetensors"):
        make_driver(f"lerobot:{folder}", toys.slide(ENV), "cpu")
    assert capsys.readouterr().out == ""


def test_what_is_on_the_hub_alone_is_named(toys, xvla: Path, tmp_path: Path):
    folder = copied(xvla, tmp_path / "hub")
    file = folder / "policy_preprocessor.json"
    steps = json.loads(file.read_text())
    (tokenizer,) = (s for s in steps["steps"] if s["registry_name"] == "tokenizer_processor")
    tokenizer["config"]["tokenizer_name"] = "facebook/no-such-tokenizer"
    file.write_text(json.dumps(steps))
    with pytest.raises(DataError, match="no-such-tokenizer") as error:
        make_driver(f"lerobot:{folder}", toys.slide(ENV), "cpu")
    assert "a folder can stand" in error.value.hint


def test_a_lerobot_policy_runs_under_the_same_protocol(toys, act: Path, diffusion: Path, capsys):
    expert = evaluate("expert", ENV, 2, opener=toys.slide)
    reports = [evaluate(f"lerobot:{p}", ENV, 2, opener=toys.slide) for p in (act, diffusion)]
    for report, kind in zip(reports, ("act", "diffusion"), strict=True):
        assert report.episodes == 2
        assert report.crashed == 0
        assert report.policy.startswith("lerobot:")
        card = report.protocol
        assert card.contract is not None
        assert card.contract.startswith("lerobot 0.6.1 " + kind)
        assert (card.env, card.seeds, card.rendering) == (
            expert.protocol.env,
            expert.protocol.seeds,
            expert.protocol.rendering,
        )
        assert report.weights is not None
        assert len(report.weights) == 64
        assert report.latency is not None
        assert report.latency.calls == sum(episode.steps for episode in report.results)
    assert reports[0].protocol.contract != reports[1].protocol.contract
    again = evaluate(f"lerobot:{diffusion}", ENV, 2, opener=toys.slide)
    assert again.results == reports[1].results
    assert capsys.readouterr().out == ""  # stdout carries the result


def test_a_larger_picture_is_made_smaller_and_other_shapes_are_refused(toys, act: Path):
    simulator = toys.slide(ENV)
    driver = make_driver(f"lerobot:{act}", simulator, "cpu")
    state = np.array([100.0, 100.0], np.float32)
    flat = np.full((2 * SIDE, 2 * SIDE, 3), 90, np.uint8)
    small = np.full((SIDE, SIDE, 3), 90, np.uint8)
    found = []
    for picture in (flat, small):
        driver.reset(0)
        found.append(driver.actions(simulator, Observation({"img": picture}, state)))
    np.testing.assert_allclose(*found, atol=1e-4)
    for shape in ((SIDE // 2, SIDE // 2, 3), (SIDE, 2 * SIDE, 3)):
        with pytest.raises(MismatchError, match=f"{SIDE} x {SIDE}") as error:
            driver.actions(simulator, Observation({"img": np.zeros(shape, np.uint8)}, state))
        assert error.value.hint == f"--image-size {SIDE}x{SIDE}"


def test_wrong_paths_are_named(toys, act: Path, tmp_path: Path, motus):
    with pytest.raises(DataError, match=r"no config\.json"):
        evaluate(f"lerobot:{tmp_path / 'nowhere'}", ENV, 1, opener=toys.slide)
    with pytest.raises(UsageError, match="of LeRobot's") as error:
        evaluate(act, ENV, 1, opener=toys.slide)
    assert error.value.hint == f"name it lerobot:{act}"

    def broken(name: str, content: bytes | None) -> Path:
        folder = tmp_path / f"broken-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        for file in act.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        (folder / name).unlink()
        if content is not None:
            (folder / name).write_bytes(content)
        return folder

    config = json.loads((act / "config.json").read_text())
    cut = (act / "model.safetensors").read_bytes()[:2000]
    for name, content, says in (
        ("policy_preprocessor.json", None, r"no policy_preprocessor\.json"),
        ("model.safetensors", None, r"no model\.safetensors"),
        ("model.safetensors", cut, "cannot open"),
        ("config.json", b"{", "cannot open"),
        ("config.json", json.dumps(config | {"type": "no-such"}).encode(), "no-such"),
        ("config.json", json.dumps(config | {"dim_model": 64}).encode(), "cannot open"),
    ):
        with pytest.raises(DataError, match=says):
            make_driver(f"lerobot:{broken(name, content)}", toys.slide(ENV), "cpu")
    ran = motus("eval", f"lerobot:{tmp_path}", "--env", "gym-pusht:PushT", "--image-size", "5")
    assert ran.code == 2


def test_what_the_robot_does_not_have_is_refused(toys, tmp_path: Path):
    simulator = toys.slide(ENV)
    for name, key, width, says in (
        ("camera", "observation.images.wrist", 2, "wants 'observation.images.wrist'"),
        ("hidden", "observation.environment_state", 2, "wants 'observation.environment_state'"),
        ("wide", "observation.image", 7, r"shape \[7\]"),
    ):
        folder = save(tmp_path / name, "act", "observation.image", (SIDE, SIDE), 2)
        config = json.loads((folder / "config.json").read_text())
        config["input_features"][key] = config["input_features"].pop("observation.image")
        config["input_features"]["observation.state"]["shape"] = [width]
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(MismatchError, match=says):
            make_driver(f"lerobot:{folder}", simulator, "cpu")


@pytest.mark.skipif(find_spec("gym_pusht") is None, reason="gym-pusht is not installed")
def test_diffusion_drives_pusht(tmp_path: Path):
    folder = save(tmp_path / "p", "diffusion", "observation.image", (96, 96), 2)
    simulator = open_simulator("gym-pusht:PushT", 96)
    simulator.max_steps = 4
    episode, _ = run_episode(simulator, make_driver(f"lerobot:{folder}", simulator, "cpu"), 3)
    assert episode.steps == 4
    simulator.close()
    with pytest.raises(UsageError, match="square"):
        open_simulator("gym-pusht:PushT", (96, 128))


@pytest.mark.skipif(find_spec("gym_aloha") is None, reason="gym-aloha is not installed")
def test_act_drives_aloha_at_the_shape_it_was_trained_on(tmp_path: Path):
    folder = save(tmp_path / "p", "act", "observation.images.top", (96, 128), 14)
    simulator = open_simulator("gym-aloha:TransferCube", (96, 128))
    assert simulator.observe().images["top"].shape == (96, 128, 3)
    simulator.max_steps = 3
    episode, _ = run_episode(simulator, make_driver(f"lerobot:{folder}", simulator, "cpu"), 3)
    assert episode.steps == 3
    simulator.close()
