"""Flow networks of other libraries, with random weights: what is asked of them, what comes back."""

import urllib.error

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models.optical_flow import raft_large, raft_small

from motus_adapters import flow_canvas, layout_for, open_flow
from motus_adapters.flow.networks import NetworkFlow
from motus_embodiments import DataError, MissingError, UsageError
from tests.adapters.pictures import shifted, texture


@pytest.fixture(scope="module")
def raft():
    torch.manual_seed(0)
    return raft_small()


def views(height, width, count=1):
    frames = np.stack([shifted(texture(height, width), 3 * t, t) for t in range(count + 1)])
    return frames[:-1], frames[1:]


def as_torch(pictures):
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


@pytest.mark.parametrize("make", [raft_small, raft_large])
def test_raft_is_asked_as_torchvision_says(make):
    torch.manual_seed(1)
    network = make().eval()
    before, after = views(128, 136)
    with torch.no_grad():
        wanted = network(as_torch(before), as_torch(after))[-1].permute(0, 2, 3, 1).numpy()
    found = NetworkFlow("raft", network).flow(before, after)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert np.abs(found).max() > 1e-3


@pytest.mark.parametrize("size", [(96, 128), (70, 50), (131, 137)])
def test_pictures_of_any_size(raft, size):
    """Margins repeat the border, which a network cannot tell from a larger picture of that kind."""
    before, after = views(*size, count=2)
    estimator = NetworkFlow("raft-small", raft)
    found = estimator.flow(before, after)
    assert found.shape == (2, *size, 2)
    np.testing.assert_allclose(found[1:], estimator.flow(before[1:], after[1:]), atol=1e-4)
    wide = [max(128, -(-side // 8) * 8) - side for side in size]
    margin = [(0, 0), *((extra // 2, extra - extra // 2) for extra in wide), (0, 0)]
    padded = [np.pad(view, margin, mode="edge") for view in (before, after)]
    (top, _), (left, _) = margin[1:3]
    inner = estimator.flow(*padded)[:, top : top + size[0], left : left + size[1]]
    np.testing.assert_allclose(found, inner, atol=1e-4)


def test_a_batch_larger_than_the_network_takes_at_once(raft):
    before, after = (part.repeat(9, axis=0) for part in views(128, 128))
    found = NetworkFlow("raft-small", raft).flow(before, after)
    np.testing.assert_allclose(found, found[:1].repeat(9, axis=0), atol=1e-4)


def test_weights_from_a_file_name_the_flow(raft, tmp_path):
    state = raft.state_dict()
    torch.save(state, tmp_path / "raft.pth")
    torch.save({"state_dict": state}, tmp_path / "nested.ckpt")
    save_file(state, tmp_path / "raft.safetensors")
    names = {
        open_flow(f"raft-small:{tmp_path / file}").name
        for file in ("raft.pth", "nested.ckpt", "raft.safetensors")
    }
    assert names == {NetworkFlow("raft-small", raft).name}
    assert names.pop().startswith("raft-small-256@")
    other = {key: value + 1 if value.is_floating_point() else value for key, value in state.items()}
    save_file(other, tmp_path / "other.safetensors")
    method = open_flow(f"raft-small:{tmp_path / 'other.safetensors'}+consistent+still")
    assert method.still
    assert method.name.endswith("+consistent+still")
    assert NetworkFlow("raft-small", raft).name not in method.name


class Trap:
    """Would leave a file behind if it were unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_files_that_hold_no_such_weights_are_refused(raft, tmp_path):
    with pytest.raises(MissingError, match="no weights of raft-small at"):
        open_flow(f"raft-small:{tmp_path / 'none.pth'}")
    good = tmp_path / "good.pth"
    torch.save(raft.state_dict(), good)
    bad = {
        "half.pth": good.read_bytes()[:5000],
        "empty.pth": b"",
        "half.safetensors": b"\x10\0\0\0\0\0\0\0{}",
    }
    for name, data in bad.items():
        (tmp_path / name).write_bytes(data)
    torch.save(Trap(tmp_path / "sprung"), tmp_path / "trap.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    for name in (*bad, "trap.pth", "list.pth"):
        with pytest.raises(DataError, match="holds no weights of raft-small"):
            open_flow(f"raft-small:{tmp_path / name}")
    assert not (tmp_path / "sprung").exists()
    with pytest.raises(DataError, match="holds no weights of raft-large"):
        open_flow(f"raft-large:{good}")


def test_weights_by_name_come_from_the_library(raft, monkeypatch):
    asked = []

    def fetch(url, **options):
        asked.append((url, options["check_hash"]))
        return raft.state_dict()

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fetch)
    assert open_flow("raft-small").name == NetworkFlow("raft-small", raft).name
    open_flow("raft-small:C_T_V1")
    assert [("C_T_V2" in asked[0][0]), ("C_T_V1" in asked[1][0])] == [True, True]
    assert all(checked for _, checked in asked)
    with pytest.raises(UsageError, match="raft-small has no weights named 'C_T_V9'"):
        open_flow("raft-small:C_T_V9")

    def offline(*_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(MissingError, match="cannot be fetched") as caught:
        open_flow("raft-small")
    assert "--flow raft-small:FILE" in caught.value.hint


def test_without_ptlflow_dpflow_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ptlflow", None)
    with pytest.raises(MissingError, match="needs ptlflow") as caught:
        open_flow("dpflow")
    assert "motus-cli[flow]" in caught.value.hint


def test_a_device_that_is_not_here(raft, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("CUDA is here")
    save_file(raft.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(MissingError, match="sees no CUDA"):
        open_flow(f"raft-small:{tmp_path / 'w.safetensors'}", "cuda")


def test_dpflow_is_asked_as_ptlflow_says(tmp_path, capsys):
    ptlflow = pytest.importorskip(
        "ptlflow", reason="ptlflow changes other packages' versions: it has its own environment"
    )
    torch.manual_seed(0)
    network = ptlflow.get_model("dpflow").eval()
    torch.save({"state_dict": network.state_dict()}, tmp_path / "dpflow.ckpt")
    capsys.readouterr()
    method = open_flow(f"dpflow:{tmp_path / 'dpflow.ckpt'}")
    assert method.name.startswith("dpflow-256@")
    before, after = views(72, 100)
    blue_first = [
        torch.from_numpy(v[..., ::-1].copy()).permute(0, 3, 1, 2) / 255 for v in (before, after)
    ]
    with torch.no_grad():
        wanted = network({"images": torch.stack(blue_first, dim=1).float()})["flows"][:, 0]
    found = method.estimator.flow(before, after)
    np.testing.assert_allclose(found, wanted.permute(0, 2, 3, 1).numpy(), atol=1e-4)
    layout = layout_for({"head": (72, 96)})
    canvas = flow_canvas(texture(72, 96), shifted(texture(72, 96), 2, 1), layout, method.estimator)
    assert np.isfinite(canvas).all()
    with pytest.raises(UsageError, match="dpflow has no weights named 'thing'") as caught:
        open_flow("dpflow:thing")
    assert "things" in caught.value.hint
    assert capsys.readouterr().out == ""
