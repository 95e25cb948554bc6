"""`motus import`: every key of every kind of checkpoint is accounted for."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from motus_model import Motus
from motus_model.importing import KeyRow, _table
from motus_model.network_folder import read_network
from motus_model.official import FILE, official_state, write_official
from tests.model.toys import SMALLEST, make_inputs, make_network, velocity

STAGE2 = replace(SMALLEST, action=replace(SMALLEST.action, state_dim=0, registers=0))
TEXT = ("--text-tokens", 6)


def official(folder: Path, network: Motus) -> Path:
    """An official checkpoint of the network; heads of the smallest one are not 128 wide."""
    write_official(folder / FILE, network.state_dict(), network.action.positions)
    return folder


@pytest.fixture
def stage3(tmp_path) -> Path:
    return official(tmp_path / "stage3", make_network())


@pytest.fixture
def stage2(tmp_path) -> Path:
    return official(tmp_path / "stage2", make_network(STAGE2))


def fates(document) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for row in document["keys"]:
        found.setdefault(row["status"], set()).add(row["key"])
    return found


def opened(folder: Path) -> Motus:
    """The network of a folder, loaded strictly."""
    config, weights = read_network(folder)
    network = Motus(config)
    network.load_state_dict(weights, strict=True)
    return network.eval()


def same_output(a: Motus, b: Motus) -> bool:
    given = make_inputs()
    with torch.no_grad():
        one, other = (velocity(network, given, masked=False) for network in (a, b))
    return torch.equal(one.video, other.video) and torch.equal(one.action, other.action)


def test_a_file_that_is_no_checkpoint(motus, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"no zip file")
    ran = motus("import", "model.safetensors", "--out", "m")
    assert ran.code == 4
    assert "model.safetensors is no checkpoint that torch.save wrote" in ran.err


def test_an_official_checkpoint(motus, stage3, tmp_path):
    ran = motus("import", stage3, "--out", "m", *TEXT, "--json")
    assert ran.code == 0, ran.err
    document = ran.document
    assert document["ok"]
    assert document["kind"] == "official Motus"
    assert document["written"]
    found = fates(document)
    network = make_network()
    assert found["loaded"] == set(network.state_dict())
    state = official_state(network.state_dict(), network.action.positions)
    aliases = {key for key in state if key.startswith(("video_m", "action_m", "und_m"))}
    aliases -= {key for key in aliases if key.startswith("video_model.")}
    assert aliases | {"action_expert.input_encoder.pos_embedding"} == found["left out"]
    assert set(found) == {"loaded", "left out"}
    assert read_network(tmp_path / "m")[0] == replace(SMALLEST, attend_text_padding=True)
    assert same_output(opened(tmp_path / "m"), network)


def test_the_table_for_people(motus, stage3):
    ran = motus("import", stage3, "--out", "m", *TEXT, "-n")
    assert ran.code == 0, ran.err
    rows = [line.split() for line in ran.out.splitlines() if line.strip()]
    assert [
        "loaded",
        "video.*",
        str(sum(k.startswith("video.") for k in make_network().state_dict())),
    ] in [row[:3] for row in rows]
    assert any(row[:2] == ["left", "out"] and "second" in row for row in rows)
    assert not Path("m").exists()


def test_stage_2_into_stage_3_of_a_robot(motus, stage2, tmp_path):
    ran = motus("import", stage2, "--out", "m", "-e", "franka", *TEXT, "--json")
    assert ran.code == 0, ran.err
    found = fates(ran.document)
    config, weights = read_network(tmp_path / "m")
    assert (config.action.state_dim, config.action.action_dim) == (8, 7)
    assert config.action.registers == 4
    fresh = found["re-initialised"]
    assert fresh == {
        key
        for key in weights
        if key.startswith(("action.action_enc", "action.state_enc", "action.reg", "action.head"))
    }
    assert found["loaded"] == set(weights) - fresh
    before = make_network(STAGE2).state_dict()
    for key in found["loaded"]:
        assert torch.equal(weights[key], before[key])
    assert float(weights["action.head.weight"].abs().max()) == 0
    assert opened(tmp_path / "m").config == config


def test_the_same_seed_begins_the_same(motus, stage2, tmp_path):
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert (
            motus("import", stage2, "-o", folder, "-e", "franka", *TEXT, "--seed", seed).code == 0
        )
    one, again, other = (
        read_network(tmp_path / name)[1]["action.registers"] for name in ("a", "b", "c")
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_stage_3_keeps_its_registers_for_another_robot(motus, stage3, tmp_path):
    ran = motus("import", stage3, "-o", "m", "-e", "franka", "--action-steps", 9, *TEXT, "--json")
    assert ran.code == 0, ran.err
    assert "action.registers" in fates(ran.document)["loaded"]
    config, _ = read_network(tmp_path / "m")
    assert (config.action.registers, config.action.steps) == (2, 9)


def test_back_to_the_official_layout(motus, stage3, tmp_path):
    assert motus("import", stage3, "--out", "m", *TEXT).code == 0
    assert motus("import", "m", "--out", "back", "--layout", "official").code == 0
    one, other = (
        torch.load(folder / FILE, weights_only=True)["module"]
        for folder in (stage3, tmp_path / "back")
    )
    assert set(one) == set(other)
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_missing_and_unexpected_keys_are_refused(motus, tmp_path):
    network = make_network()
    state = official_state(network.state_dict(), network.action.positions)
    for key in [k for k in state if k.endswith("und_expert.blocks.1.ffn.2.bias")]:
        del state[key]
    state["nonsense.weight"] = torch.zeros(3)
    torch.save({"module": state}, tmp_path / FILE)
    ran = motus("import", FILE, "--out", "m", *TEXT, "--json")
    assert ran.code == 1
    assert ran.document["error"]["message"].startswith("1 keys are missing and 1 unexpected")
    found = fates(ran.document)
    assert found["missing"] == {"understanding.blocks.1.ffn.2.bias"}
    assert found["unexpected"] == {"nonsense.weight"}
    assert not ran.document["written"]
    assert not Path("m").exists()


def test_unexpected_keys_can_be_let_through(motus, tmp_path):
    network = make_network()
    state = official_state(network.state_dict(), network.action.positions)
    state["nonsense.weight"] = torch.zeros(3)
    torch.save({"module": state}, tmp_path / FILE)
    refused = motus("import", FILE, "--out", "m", *TEXT)
    assert refused.code == 1
    assert "--skip-unexpected" in refused.err
    assert "nonsense.weight" in refused.out
    assert motus("import", FILE, "--out", "m", *TEXT, "--skip-unexpected").code == 0
    assert same_output(opened(tmp_path / "m"), network)


def test_an_alias_stands_in_for_a_missing_first_name(motus, tmp_path):
    network = make_network()
    state = official_state(network.state_dict(), network.action.positions)
    only = {k: v for k, v in state.items() if k.startswith(("action_module.", "und_module."))}
    torch.save({"module": only}, tmp_path / FILE)
    assert motus("import", FILE, "--out", "m", *TEXT).code == 0
    assert same_output(opened(tmp_path / "m"), network)


def test_the_vlm_of_an_official_checkpoint_is_named_and_left_out(motus, tmp_path):
    network = make_network()
    state = official_state(network.state_dict(), network.action.positions)
    state["vlm_model.model.language_model.norm.weight"] = torch.ones(3)
    state["und_module.vlm_model.model.language_model.norm.weight"] = torch.ones(3)
    torch.save({"module": state}, tmp_path / FILE)
    ran = motus("import", FILE, "--out", "m", *TEXT, "--json")
    assert ran.code == 0, ran.err
    assert "vlm_model.model.language_model.norm.weight" in fates(ran.document)["left out"]


class Evil:
    def __reduce__(self):
        return print, ("code ran",)


def test_a_pickle_with_code_is_refused_and_not_run(motus, tmp_path, capsys):
    torch.save({"module": {"a": Evil()}}, tmp_path / FILE)
    ran = motus("import", FILE, "--out", "m", "--json")
    assert ran.code == 4
    assert ran.document["error"]["code"] == "bad_data"
    assert "code ran" not in ran.out + ran.err
    assert not Path("m").exists()


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda p: None, "there is no"),
        (lambda p: p.mkdir(), "no checkpoint that motus knows"),
        (lambda p: p.write_bytes(b"no pickle"), "no checkpoint that torch.save wrote"),
        (lambda p: torch.save([1, 2], p), "holds no dict of tensors"),
        (lambda p: torch.save({"module": {"a": 1}}, p), "not a tensor"),
        (lambda p: torch.save({"module": {"a": torch.zeros(1)}}, p), "no key"),
    ],
)
def test_bad_sources_are_told_apart(motus, tmp_path, make, told):
    make(tmp_path / "source")
    ran = motus("import", "source", "--out", "m", "--json")
    assert ran.code == 4
    assert told in ran.document["error"]["message"]
    assert not Path("m").exists()


def test_a_folder_is_replaced_only_by_force_and_only_if_it_holds_a_model(motus, stage3, tmp_path):
    (tmp_path / "m").mkdir()
    assert motus("import", stage3, "--out", "m", *TEXT).code == 0
    before = (tmp_path / "m" / "config.json").stat().st_mtime_ns
    ran = motus("import", stage3, "--out", "m", *TEXT)
    assert ran.code == 2
    assert "--force" in ran.err
    assert (tmp_path / "m" / "config.json").stat().st_mtime_ns == before
    assert motus("import", stage3, "--out", "m", *TEXT, "--force").code == 0
    assert (tmp_path / "m" / "config.json").stat().st_mtime_ns > before
    names = ["config.json", "network.safetensors"]
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == names
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("keep")
    for out in ("other", "other/mine.txt"):
        ran = motus("import", stage3, "--out", out, *TEXT, "--force")
        assert ran.code == 2
        assert "something else" in ran.err
    assert (tmp_path / "other" / "mine.txt").read_text() == "keep"
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_diffusers_wan_folder(motus, tmp_path):
    from diffusers import WanTransformer3DModel

    sizes = {"num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 4}
    sizes |= {"out_channels": 4, "text_dim": 10, "freq_dim": 16, "ffn_dim": 40, "num_layers": 2}
    WanTransformer3DModel(**sizes).save_pretrained(tmp_path / "wan" / "transformer")
    ran = motus("import", "wan", "--out", "m", "--json")
    assert ran.code == 0, ran.err
    assert ran.document["kind"] == "Wan transformer"
    network = opened(tmp_path / "m")
    assert set(fates(ran.document)["loaded"]) == set(network.state_dict())
    assert network.action is None
    refused = motus("import", "wan", "--out", "n", "-e", "franka")
    assert refused.code == 4
    assert "no action expert" in refused.err


def test_a_qwen_folder(motus, tmp_path):
    from transformers import Qwen3VLForConditionalGeneration, Qwen3VLModel

    from tests.model.tiny_hub import qwen_config

    torch.manual_seed(0)
    whole = Qwen3VLForConditionalGeneration(qwen_config())
    whole.save_pretrained(tmp_path / "qwen")
    ran = motus("import", "qwen", "--out", "m", "--json")
    assert ran.code == 0, ran.err
    assert ran.document["kind"] == "Qwen3-VL"
    back, info = Qwen3VLModel.from_pretrained(tmp_path / "m", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    for key, value in whole.model.state_dict().items():
        assert torch.equal(back.state_dict()[key], value)
    assert motus("import", "qwen", "--out", "n", "--layout", "official").code == 4


def test_a_damaged_folder_of_ours(motus, stage3, tmp_path):
    assert motus("import", stage3, "--out", "m", *TEXT).code == 0
    config = tmp_path / "m" / "config.json"
    data = json.loads(config.read_text())
    config.write_text(json.dumps(data | {"version": 99}))
    ran = motus("import", "m", "--out", "n")
    assert ran.code == 4
    assert "version 99" in ran.err
    config.write_text(json.dumps(data | {"network": {"video": {"patch": [1, 2, 2]}}}))
    assert motus("import", "m", "--out", "n").code == 4


@pytest.mark.parametrize(
    "config",
    [
        {"_class_name": "WanTransformer3DModel", "in_channels": 8},
        {"_class_name": "WanModel", "dim": 128},
        {"_class_name": "WanModel", "patch_size": [1, 2]},
    ],
)
def test_a_damaged_wan_folder(motus, tmp_path, config):
    (tmp_path / "config.json").write_text(json.dumps(config))
    ran = motus("import", ".", "--out", "m")
    assert ran.code == 4, ran.err
    assert "config.json: no Wan configuration" in ran.err


@pytest.mark.parametrize("index", ["{", "[]", "{}", '{"weight_map": 3}'])
def test_a_damaged_index(motus, stage3, tmp_path, index):
    assert motus("import", stage3, "--out", "m", *TEXT).code == 0
    (tmp_path / "m" / "network.safetensors.index.json").write_text(index)
    ran = motus("import", "m", "--out", "n")
    assert ran.code == 4, ran.err
    assert "network.safetensors.index.json is damaged" in ran.err


def test_sizes_that_no_network_can_have(motus, stage3, tmp_path):
    assert motus("import", stage3, "--out", "m", *TEXT).code == 0
    config = tmp_path / "m" / "config.json"
    data = json.loads(config.read_text())
    data["network"]["video"]["heads"] = 0
    config.write_text(json.dumps(data))
    ran = motus("import", "m", "--out", "n")
    assert ran.code == 4, ran.err
    assert "m has sizes that no network can have" in ran.err


def test_layers_are_one_row_of_the_table():
    rows = [
        KeyRow("unexpected", f"{place}.{layer}.q.weight", 1)
        for place in ("language_model.layers", "visual.blocks")
        for layer in range(3)
    ]
    assert [(row["name"], row["keys"]) for row in _table(rows)] == [
        ("language_model.layers.*.q.weight", 3),
        ("visual.blocks.*.q.weight", 3),
    ]
