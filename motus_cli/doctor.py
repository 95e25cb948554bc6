"""`motus doctor`: does this machine have what motus needs, and what to do if not."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from motus_cli.console import Console, Outcome
from motus_embodiments import MissingError

REQUIRED_PACKAGES = ("torch", "lerobot", "mujoco", "av", "opencv-python-headless", "pyarrow")
OPTIONAL_PACKAGES = {
    "gym-hil": "sim",
    "gym-aloha": "sim",
    "gym-pusht": "sim",
    "metaworld": "sim",
    "mujoco-menagerie": "robots",
    "mcap": "formats",
    "imagecodecs": "formats",
    "ptlflow": "flow",
    "ray": "ray",
    "onnxruntime": "onnx",
    "websockets": "serve",
    "msgpack": "serve",
    "prometheus-client": "serve",
    "grpcio": "serve",
    "torchmetrics": "metrics",
    "wandb": "tracking",
    "trackio": "tracking",
    "rerun-sdk": "viz",
}
EGL_REMEDY = "apt-get install libegl1 libgl1 libgles2 libegl-mesa0 libgl1-mesa-dri"
GIGABYTE = 1024**3
NEEDED_DISK = 1.0  # GB; `motus demo` and runs of size `tiny` fit


@dataclass(frozen=True)
class Check:
    """One line of the doctor: what was looked at, how it is, what was seen, what to do."""

    name: str
    status: Literal["ok", "missing", "absent"]
    found: str
    remedy: str | None = None


def doctor(console: Console) -> Outcome:
    """Check that this machine has what motus needs.

    Looks at Python, packages, video, rendering, CUDA, disk and extras. Exit 3 if one is missing;
    what is absent is optional.

    Example: motus doctor
    """
    packages = [_package(name) for name in REQUIRED_PACKAGES]
    probes = [
        _probed("arithmetic", _torch, "make clean, then make test"),
        _probed("video decoding", _decode_one_frame, "reinstall the package av"),
        _probed("rendering (EGL)", _render, EGL_REMEDY),
    ]
    extras = [_extra(name, extra) for name, extra in OPTIONAL_PACKAGES.items()]
    checks = [_python(), *packages, *probes, _cuda(), _disk(), *extras]
    missing = [check.name for check in checks if check.status == "missing"]
    problem = None
    if missing:
        problem = MissingError(
            f"missing here: {', '.join(missing)}", hint="the last column says what to do"
        )
    return Outcome({"checks": checks}, problem=problem, next="motus demo")


def _python() -> Check:
    found = sys.version.split()[0]
    return Check("python", "ok" if sys.version_info >= (3, 12) else "missing", found)


def _package(name: str) -> Check:
    try:
        return Check(name, "ok", version(name))
    except PackageNotFoundError:
        return Check(name, "missing", "not installed", f"pip install {name}")


def _extra(name: str, extra: str) -> Check:
    try:
        return Check(name, "ok", version(name))
    except PackageNotFoundError:
        return Check(name, "absent", "optional", f"pip install 'motus-cli[{extra}]'")


def _probed(name: str, probe: Callable[[], str], remedy: str) -> Check:
    """Run one probe; a library may fail in any way, and each means that the part is missing."""
    try:
        return Check(name, "ok", probe())
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return Check(name, "missing", lines[0], remedy)


def _torch() -> str:
    import torch

    product = torch.ones(2, 2) @ torch.ones(2, 2)
    return f"{torch.get_num_threads()} threads, matmul gives {product[0, 0].item():g}"


def _decode_one_frame() -> str:
    """Encode one grey frame in memory and read it back."""
    import io

    import av
    import numpy as np

    memory = io.BytesIO()
    with av.open(memory, "w", format="mp4") as container:
        stream = container.add_stream("h264", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 128, np.uint8), format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    memory.seek(0)
    with av.open(memory) as container:
        decoded = next(container.decode(video=0)).to_ndarray(format="rgb24")
    return f"one {decoded.shape[1]}x{decoded.shape[0]} frame, grey {decoded.mean():.0f} of 128"


def _render() -> str:
    import os

    os.environ.setdefault("MUJOCO_GL", "egl")
    import mujoco

    model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><light/></worldbody></mujoco>")
    renderer = mujoco.Renderer(model, 16, 16)
    try:
        renderer.update_scene(mujoco.MjData(model))
        shape = renderer.render().shape
    finally:
        renderer.close()
    return f"{shape[1]}x{shape[0]} image with MUJOCO_GL={os.environ['MUJOCO_GL']}"


def _cuda() -> Check:
    try:
        import torch
    except ImportError:
        return Check("cuda", "absent", "no torch")
    if not torch.cuda.is_available():
        return Check("cuda", "absent", "no device; `tiny` needs none")
    return Check("cuda", "ok", torch.cuda.get_device_name(0))


def _disk() -> Check:
    free = shutil.disk_usage(".").free / GIGABYTE
    enough = free >= NEEDED_DISK
    remedy = None if enough else f"free {NEEDED_DISK:g} GB"
    return Check("disk", "ok" if enough else "missing", f"{free:.1f} GB free", remedy)
