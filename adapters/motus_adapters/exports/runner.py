"""Runs a policy that was exported to ONNX; needs numpy and onnxruntime, neither torch nor motus.

    from runner import Runner
    policy = Runner("the folder that this file lies in")
    actions = policy.act({"front": picture}, state, "pick up the cube")

`motus export --format onnx` copies this file beside the graphs. It gives the actions of the
policy it came from: same seed, same noise. Pictures are scaled by numpy here and by OpenCV there,
which may differ by one of 255 levels.
"""

import hashlib
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray
SMALL_TURN = 1e-12  # rad
RATIO = 0.03  # by how much a head picture's width to height may differ from the trained one
ROUNDED = 4  # pixels by which a canvas box may differ from the camera's own size


class ExportError(Exception):
    """A folder or an observation that the runner refuses."""


class Runner:
    """One exported policy.

    Args:
        folder: With `runner.json` and the graphs.
        precision: `float32`, or a variant that lies in the folder: `int8`, `bf16`.
        threads: For onnxruntime; 0 leaves it to the library.
    """

    def __init__(self, folder: Path | str, precision: str = "float32", threads: int = 0) -> None:
        import onnxruntime  # type: ignore[import-untyped]

        self.folder = Path(folder)
        self.about: dict[str, Any] = json.loads((self.folder / "runner.json").read_text())
        ending = "" if precision == "float32" else f".{precision}"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._graphs = {}
        for name in ("encode", "step"):
            path = self.folder / f"{name}{ending}.onnx"
            if not path.is_file():
                raise ExportError(f"{path} is not there; export it with --format onnx")
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() != self.about["files"][path.name]:
                raise ExportError(f"{path} is not the file that was exported")
            self._graphs[name] = onnxruntime.InferenceSession(
                data, options, providers=["CPUExecutionProvider"]
            )
        self.clipped = self.slowed = 0

    def act(
        self, images: Mapping[str, Array], state: Array, instruction: str, seed: int = 0
    ) -> Array:
        """The next actions [t, a], one row per control step, in the robot's own units.

        Args:
            images: Camera name to uint8 RGB picture [h, w, 3].
            state: Robot state, native order and units.
            instruction: What to do.
            seed: Of the noise.

        Raises:
            ExportError: A view is missing or there twice, a picture is no uint8 RGB or has another
                size or shape than in training; the state has another width, or a number that is
                not finite or beyond the card's limits; or the actions have one that is not finite.
        """
        about = self.about
        canonical = affine(about["state"], state)
        check_state(canonical, about["state_limits"])
        noise = draw_noise([seed], *about["noise"])
        canvas = self.canvas(images)
        rows = self.solve(canvas, self.describe(canonical), instruction, noise)
        scale = about["action_statistics"]
        wide = at_rows(rows, np.array(about["rows"]))[0] * scale["std"] + scale["mean"]
        absolute = self.absolute(wide, canonical)
        inside, allowed = limited(absolute, canonical, about["limits"])
        self.clipped += int((inside != absolute).sum())
        self.slowed += int((allowed != inside).sum())
        return affine(about["action"], allowed)

    def solve(
        self, canvas: Array, state: Array, instruction: str, noise: tuple[Array, Array]
    ) -> Array:
        """Normalised actions [1, t, a] of a canvas at the model's size and a described state."""
        scale = self.about["state_statistics"]
        seen = ((state - np.array(scale["mean"])) / np.array(scale["std"])).astype(np.float32)
        picture = canvas.astype(np.float32).transpose(2, 0, 1)[None] / np.float32(255)
        codes, mask = words(instruction, self.about["words"], self.about["text_tokens"])
        feed = {"image": picture, "words": codes, "word_mask": mask}
        encoded = self._run("encode", feed)
        condition = encoded.pop("condition")
        encoded["state"] = seen[None]
        video, actions = (part.copy() for part in noise)
        video[:, :, :1] = condition
        for times in self.about["steps"]:
            feed = {"video": video, "actions": actions, **encoded}
            feed["times"] = np.array([times[:2]], np.float32)
            velocity = self._run("step", feed)
            if "video_velocity" in velocity:
                video = video + velocity["video_velocity"] * np.float32(times[2])
                video[:, :, :1] = condition
            actions = actions + velocity["action_velocity"] * np.float32(times[3])
        return actions

    def describe(self, state: Array) -> Array:
        """Canonical state, and where the end-effectors are if that is what actions are about."""
        poses = self.poses(state)
        return np.concatenate([state, *(pose[:3, 3] for pose in poses)])

    def poses(self, state: Array) -> list[Array]:
        """End-effector poses [4, 4] in each arm's base frame; none for joint actions."""
        return [forward(chain, state) for chain in self.about["chains"]]

    def absolute(self, actions: Array, state: Array) -> Array:
        """Relative actions [t, a] to absolute ones."""
        out = actions.astype(np.float64)
        joints = self.about["relative_joints"]
        out[:, joints] += state[joints]
        if not self.about["relative_poses"]:
            return out
        for chain, pose in zip(self.about["chains"], self.poses(state), strict=True):
            at = chain["action"]
            out[:, at : at + 3] += pose[:3, 3]
            if chain["turns"]:
                for row in range(len(out)):
                    turn = pose[:3, :3] @ rotation(out[row, at + 3 : at + 6])
                    out[row, at + 3 : at + 6] = turn_vector(turn)
        return out

    def canvas(self, images: Mapping[str, Array]) -> Array:
        """The one picture that the model sees, uint8 [H, W, 3]."""
        about = self.about["canvas"]
        whole = np.zeros((about["height"], about["width"], 3), np.uint8)
        roles = {n: role for role, names in self.about["cameras"].items() for n in names}
        seen = set()
        for name, picture in images.items():
            role = roles.get(name.removeprefix("observation.images."))
            if role is None:
                continue
            if role in seen:
                raise ExportError(f"two pictures for the view '{role}': {', '.join(images)}")
            shape = picture.shape
            if picture.dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
                raise ExportError(
                    f"camera '{name}' gives {picture.dtype} {shape}, not uint8 [h, w, 3]"
                )
            x, y, width, height = about["boxes"][role]
            if role == "head" and any(misfit(shape[1], shape[0], (width, height))):
                raise ExportError(
                    f"camera '{name}' gives {shape[1]} x {shape[0]} pixels; the policy was trained "
                    f"on {width} x {height} or more of that shape; crop it as the recordings were"
                )
            whole[y : y + height, x : x + width] = letterbox(picture, width, height, stretch=4)
            seen.add(role)
        missing = sorted(set(about["boxes"]) - seen)
        if missing:
            raise ExportError(f"no picture for the view '{missing[0]}'; given: {', '.join(images)}")
        return letterbox(whole, about["model"][1], about["model"][0])

    def _run(self, graph: str, feed: Mapping[str, Array]) -> dict[str, Array]:
        session = self._graphs[graph]
        wanted = [entry.name for entry in session.get_inputs()]
        names = [entry.name for entry in session.get_outputs()]
        return dict(zip(names, session.run(names, {k: feed[k] for k in wanted}), strict=True))


def draw_noise(
    seeds: Sequence[int], video: Sequence[int], actions: Sequence[int]
) -> tuple[Array, Array]:
    """Normal noise of both modalities; a row follows from its seed alone.

    Args:
        seeds: One a row.
        video: Shape of the latent frames of one row.
        actions: Shape of one row's action chunk.
    """
    generators = [np.random.default_rng(seed) for seed in seeds]
    parts = [
        np.stack([generator.standard_normal(tuple(shape), np.float32) for generator in generators])
        for shape in (video, actions)
    ]
    return parts[0], parts[1]


def at_rows(chunk: Array, rows: Array) -> Array:
    """A chunk [b, t, a] at fractional rows, linear between them and held at the end."""
    if np.array_equal(rows, np.arange(chunk.shape[1])):
        return chunk
    last = chunk.shape[1] - 1
    low = np.clip(np.floor(rows).astype(int), 0, last)
    high = np.minimum(low + 1, last)
    share = np.clip(rows - low, 0, 1)[:, None].astype(chunk.dtype)
    return chunk[:, low] * (1 - share) + chunk[:, high] * share


def words(text: str, table: int, count: int) -> tuple[Array, Array]:
    """Rows of the word table [1, count], and which of them are real."""
    found = re.findall(r"\w+", text.lower())[:count] or ["nothing"]
    codes, mask = np.zeros((1, count), np.int64), np.zeros((1, count), bool)
    codes[0, : len(found)] = [zlib.crc32(word.encode()) % table for word in found]
    mask[0, : len(found)] = True
    return codes, mask


def affine(terms: Mapping[str, Any], values: Array) -> Array:
    """Matrix @ values + offset, along the last axis."""
    matrix, offset = np.array(terms["matrix"]), np.array(terms["offset"])
    values = np.asarray(values, np.float64)
    if values.ndim == 0 or values.shape[-1] != matrix.shape[1] or not np.isfinite(values).all():
        raise ExportError(f"expected {matrix.shape[1]} finite numbers, not {values}")
    return values @ matrix.T + offset


def check_state(state: Array, limits: Sequence[Sequence[Any]]) -> None:
    """Hold a canonical state against name, unit, lowest and highest value of each number.

    Raises:
        ExportError: One lies beyond.
    """
    for value, (name, unit, low, high) in zip(state, limits, strict=True):
        least, most = -np.inf if low is None else low, np.inf if high is None else high
        if not least <= value <= most:
            raise ExportError(
                f"state '{name}' is {value:.4g} {unit}; the card allows {least:.4g} to {most:.4g}; "
                "are its unit and its place in the state those of the recordings?"
            )


def misfit(width: int, height: int, box: tuple[int, int]) -> tuple[bool, bool]:
    """Whether a picture is smaller than its box of the canvas, and whether of another shape."""
    is_small = min(width - box[0], height - box[1]) < -ROUNDED
    is_other = abs(width * box[1] / height - box[0]) > ROUNDED + RATIO * box[0]
    return is_small, is_other


def limited(actions: Array, state: Array, limits: Mapping[str, Any]) -> tuple[Array, Array]:
    """Actions [t, a] cut to limits, and these cut to joint speeds; null in `limits` is none."""
    if not np.isfinite(actions).all():
        raise ExportError("the policy gives actions that are not finite; stop the robot")
    low, high = (np.array(limits[key], np.float64) for key in ("low", "high"))
    inside = np.fmin(np.fmax(actions, low), high)
    slow = inside.copy()
    before, reach = state[limits["state_columns"]], np.array(limits["first"])
    for row in slow if limits["columns"] else ():
        row[limits["columns"]] = before = np.clip(
            row[limits["columns"]], before - reach, before + reach
        )
        reach = np.array(limits["stride"])
    return inside, slow


def forward(chain: Mapping[str, Any], state: Array) -> Array:
    """Pose of a chain's end in its base frame: bodies from the world on, each with its joints."""
    pose = np.eye(4)
    for link in chain["links"]:
        pose = pose @ np.array(link["pose"])
        for joint in link["joints"]:
            moved = np.eye(4)
            axis, anchor = np.array(joint["axis"]), np.array(joint["anchor"])
            value = state[joint["column"]] - joint["zero"] if joint["column"] >= 0 else 0.0
            if joint["slides"]:
                moved[:3, 3] = axis * value
            else:
                moved[:3, :3] = rotation(axis * value)
                moved[:3, 3] = anchor - moved[:3, :3] @ anchor
            pose = pose @ moved
    return np.linalg.inv(np.array(chain["base"])) @ pose @ np.array(chain["tip"])


def rotation(vector: Array) -> Array:
    """Rotation vector (rad) to matrix [3, 3]: Rodrigues' formula."""
    angle = float(np.linalg.norm(vector))
    if angle < SMALL_TURN:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def turn_vector(matrix: Array) -> Array:
    """Matrix [3, 3] to rotation vector (rad), by the quaternion of the largest component."""
    square = np.array([np.trace(matrix), *(2 * matrix[i, i] - np.trace(matrix) for i in range(3))])
    k = int(np.argmax(square))
    skew = np.array(
        [matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]]
    )
    q = np.empty(4)
    q[k] = 0.5 * np.sqrt(max(1 + square[k], 0.0))
    if k == 0:
        q[1:] = skew / (4 * q[0])
    else:
        i, j = (k % 3), ((k + 1) % 3)
        q[0] = skew[k - 1] / (4 * q[k])
        q[1 + i] = (matrix[k - 1, i] + matrix[i, k - 1]) / (4 * q[k])
        q[1 + j] = (matrix[k - 1, j] + matrix[j, k - 1]) / (4 * q[k])
    if q[0] < 0:
        q = -q
    size = float(np.linalg.norm(q[1:]))
    if size < SMALL_TURN:
        return 2 * q[1:]
    return q[1:] / size * 2 * np.arctan2(size, q[0])


def letterbox(picture: Array, width: int, height: int, *, stretch: int = 0) -> Array:
    """Scale a picture into width x height, its shape kept, black bars around."""
    h, w = picture.shape[:2]
    if (w, h) == (width, height):
        return picture
    scale = min(width / w, height / h)
    inner_w, inner_h = max(1, round(w * scale)), max(1, round(h * scale))
    if width - inner_w <= stretch and height - inner_h <= stretch:
        inner_w, inner_h = width, height
    weigh = shares if scale < 1 else between
    rows = weigh(h, inner_h) @ picture.reshape(h, -1).astype(np.float64)
    inner = weigh(w, inner_w) @ rows.reshape(inner_h, w, 3)
    out = np.zeros((height, width, 3), np.uint8)
    x, y = (width - inner_w) // 2, (height - inner_h) // 2
    out[y : y + inner_h, x : x + inner_w] = np.floor(inner + 0.5)
    return out


def shares(inputs: int, outputs: int) -> Array:
    """Weights [outputs, inputs] of area averaging: how much of each input lies in an output."""
    edges = np.arange(outputs + 1) * inputs / outputs
    left = np.maximum(edges[:-1, None], np.arange(inputs))
    right = np.minimum(edges[1:, None], np.arange(1, inputs + 1))
    return np.clip(right - left, 0, None) * outputs / inputs


def between(inputs: int, outputs: int) -> Array:
    """Weights [outputs, inputs] of linear interpolation between pixel centres."""
    centre = np.clip((np.arange(outputs) + 0.5) * inputs / outputs - 0.5, 0, inputs - 1)
    return np.clip(1 - np.abs(centre[:, None] - np.arange(inputs)), 0, None)
