"""`motus serve` as a command: what it refuses to start with, and one whole life."""

import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.serving.toys import Running, ask, free_port

TOKEN = "a-token-that-is-long-enough"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A whole policy folder with fresh weights, for the planar pusher."""
    import torch

    from motus_adapters import BundleConfig, Layout, Normalizer, write_bundle
    from motus_adapters.action_space import ActionSpace
    from motus_adapters.deployment.bundle import model_config
    from motus_embodiments import load_card
    from motus_model import MotusModel, Window

    torch.manual_seed(0)
    one = Normalizer(np.full(2, 0.25, np.float32), np.full(2, 0.1, np.float32))
    space = ActionSpace(load_card("pusht"), one, one)
    config = BundleConfig(
        "tiny", Window(2, 2.5, 8, 10.0), Layout(48, 48, {"head": (0, 0, 48, 48)}), 10.0
    )
    folder = tmp_path_factory.mktemp("bundle") / "policy"
    weights = MotusModel(model_config(config, space)).state_dict()
    write_bundle(folder, weights, config, space, "made by a test")
    return folder


@pytest.fixture
def copy(bundle, tmp_path):
    import shutil

    return Path(shutil.copytree(bundle, tmp_path / "policy"))


class TestRefusals:
    def test_one_flipped_bit(self, motus, copy):
        weights = copy / "policy.safetensors"
        data = bytearray(weights.read_bytes())
        data[len(data) // 2] ^= 1
        weights.write_bytes(bytes(data))
        ran = motus("serve", copy, "--port", 0, "--json")
        assert ran.code == 4
        assert (
            "policy.safetensors is not the file that was exported"
            in ran.document["error"]["message"]
        )

    def test_a_pickle_in_place_of_the_weights_is_never_loaded(self, motus, copy, tmp_path):
        touched = tmp_path / "touched"

        class Evil:
            def __reduce__(self):
                return (os.mkdir, (str(touched),))

        (copy / "policy.safetensors").write_bytes(pickle.dumps(Evil()))
        ran = motus("serve", copy, "--port", 0)
        assert ran.code == 4
        # and not even when the contract vouches for it
        reseal(copy)
        ran = motus("serve", copy, "--port", 0)
        assert ran.code == 4
        assert "safetensors" in ran.err
        assert not touched.exists()

    def test_a_folder_that_is_no_policy(self, motus, tmp_path):
        assert motus("serve", tmp_path / "nothing", "--port", 0).code == 4
        assert motus("serve", "--replay", tmp_path, "--port", 0).code == 4

    def test_a_device_that_is_not_here(self, motus, bundle):
        import torch

        if torch.cuda.is_available():
            pytest.skip("CUDA is here")
        assert motus("serve", bundle, "--port", 0, "--device", "cuda").code == 3

    def test_neither_or_both(self, motus, bundle, tmp_path):
        assert motus("serve").code == 2
        assert motus("serve", bundle, "--replay", tmp_path).code == 2

    def test_others_without_a_token(self, motus, bundle, monkeypatch):
        monkeypatch.delenv("MOTUS_TOKEN", raising=False)
        ran = motus("serve", bundle, "--host", "0.0.0.0")
        assert ran.code == 2
        assert "no token is set" in ran.err
        assert "--token-file" in ran.err

    def test_wrong_access_files(self, motus, bundle, tmp_path):
        (tmp_path / "token").write_text("short")
        assert motus("serve", bundle, "--token-file", tmp_path / "token").code == 4
        assert motus("serve", bundle, "--token-file", tmp_path / "none").code == 4
        assert motus("serve", bundle, "--tls-cert", tmp_path / "token").code == 2
        tls = ("--tls-cert", tmp_path / "token", "--tls-key", tmp_path / "token")
        assert motus("serve", bundle, "--port", 0, *tls).code == 4


def reseal(folder):
    """Make the contract of a changed folder whole again, as an attacker would."""
    import hashlib

    from motus_adapters.unified.manifest import hash_json

    path = folder / "contract.json"
    agreed = json.loads(path.read_text())
    weights = (folder / "policy.safetensors").read_bytes()
    agreed["files"]["policy.safetensors"] = hashlib.sha256(weights).hexdigest()
    sealed = {key: value for key, value in agreed.items() if key != "digest"}
    path.write_text(json.dumps(sealed | {"digest": hash_json(sealed)}))


def test_a_whole_life(bundle, tmp_path):
    """Started, warm, asked, told to stop by SIGTERM: exit 0 and one document."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "motus_cli.app", "serve", bundle, "--port", str(port), "--json"],
        cwd=tmp_path,
        env=os.environ | {"MOTUS_TOKEN": TOKEN},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        assert process.stderr.readline() == f"ready at ws://127.0.0.1:{port}\n"
        server = Running(port, "ws", TOKEN, lambda: None)
        picture = np.zeros((48, 48, 3), np.uint8)
        message = {"images": {"img": picture}, "state": [200.0, 200.0], "prompt": "push", "seed": 1}
        with server.talk() as connection:
            first = ask(connection, message)["actions"]
            assert first.shape == (8, 2)
            np.testing.assert_array_equal(ask(connection, message)["actions"], first)
            left = {"previous": first[2:], "delay": 2}
            for method in ("guide", "blend"):
                joined = ask(connection, message | {"seed": 9, "chunking": method} | left)
                np.testing.assert_allclose(joined["actions"][:2], first[2:4], atol=1e-3)
                assert np.abs(joined["actions"][5] - first[7]).max() > 1e-3
            ask(connection, message | {"state": [201.0, 200.0]})  # moved, and sees the same
        assert server.metric('motus_met_total{kind="frozen"}') == 1
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
        document = json.loads(out)
        assert document["ok"]
        assert document["outcomes"] == {"ok": 5}
    finally:
        process.kill()
        process.wait()


def test_ctrl_c_before_it_is_warm(bundle, tmp_path):
    (tmp_path / "token").write_text("a-token-of-some-length")
    to_all = ("--host", "0.0.0.0", "--token-file", "token")  # for the remark about TLS
    serve = (sys.executable, "-m", "motus_cli.app", "serve", bundle, "--port", str(free_port()))
    process = subprocess.Popen(
        [*serve, *to_all],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert "without TLS" in process.stderr.readline()  # what is said before the policy is loaded
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode in (0, 130), err
    assert "Traceback" not in err
