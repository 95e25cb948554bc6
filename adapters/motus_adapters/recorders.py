"""Where demonstrations go: files as robomimic writes them, folders as LeRobot does."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import h5py
import numpy as np
from jaxtyping import Float, UInt8

from motus_adapters.outward.robomimic_hdf5 import new_file
from motus_embodiments import Card, load_card

_PACKED = {"compression": "gzip", "compression_opts": 1}


@dataclass(frozen=True)
class Demonstration:
    """One recorded episode, native values."""

    images: dict[str, UInt8[np.ndarray, "t h w 3"]]
    states: Float[np.ndarray, "t s"]
    actions: Float[np.ndarray, "t a"]
    instruction: str
    rate: float
    card: str
    success: bool


class Hdf5Recorder:
    """One file in robomimic's layout (`data/demo_k/{obs/*,actions}`), pictures without loss.

    Attributes:
        signs: Files that tell its folder from others'; none, since it is a file.
    """

    signs: ClassVar[tuple[str, ...]] = ()

    def __init__(self, path: Path, env: str, seed: int) -> None:
        self._about = {"env_name": env, "seed": seed}
        self._opened = new_file(path)
        self._episodes = self._frames = 0

    def add(self, episode: Demonstration) -> None:
        """Write an episode."""
        write_demo(self._data, self._episodes, episode)
        self._episodes += 1
        self._frames += len(episode.actions)
        self._data.attrs["rate_hz"] = episode.rate
        self._file.flush()

    def finish(self) -> None:
        """Write what belongs to all of them."""
        self._data.attrs["total"] = self._frames
        self._data.attrs["env_args"] = json.dumps(self._about)

    def __enter__(self) -> Self:
        """Open the file."""
        self._file = self._opened.__enter__()
        self._data = self._file.create_group("data")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._opened.__exit__(kind, error, trace)


def write_demo(data: h5py.Group, index: int, episode: Demonstration) -> None:
    """Write an episode as `data/demo_<index>`."""
    group = data.create_group(f"demo_{index}")
    group.attrs["num_samples"] = len(episode.actions)
    group.attrs["task"] = episode.instruction
    # Checksums tell damaged data from sound data when it is read.
    group.create_dataset("actions", data=episode.actions, fletcher32=True)
    observation = group.create_group("obs")
    for name, columns in _parts(load_card(episode.card)).items():
        observation.create_dataset(name, data=episode.states[:, columns], fletcher32=True)
    for name, images in episode.images.items():
        chunk = (1, *images.shape[1:])
        observation.create_dataset(
            f"{name}_image", data=images, chunks=chunk, fletcher32=True, **_PACKED
        )


def _parts(card: Card) -> dict[str, slice]:
    """The state's datasets: arm and hand of a robot with one of each, else all in one piece."""
    if len(card.arms) == 1 and card.arms[0].gripper:
        return {"joint_pos": slice(None, -1), "gripper_pos": slice(-1, None)}
    return {"state": slice(None)}


class LeRobotRecorder:
    """A folder that LeRobot itself writes, by its own recorder.

    Attributes:
        signs: Files that tell its folder from others'.
    """

    signs: ClassVar[tuple[str, ...]] = ("meta/info.json",)

    def __init__(self, path: Path, env: str, seed: int) -> None:
        self._path = path
        self._name = f"{env.replace(':', '-')}-{seed}"
        self._dataset: Any = None

    def add(self, episode: Demonstration) -> None:
        """Write an episode."""
        if self._dataset is None:
            self._dataset = self._created(episode)
        rows = zip(episode.states, episode.actions, strict=True)
        for row, (state, action) in enumerate(rows):
            frame = {f"observation.images.{n}": film[row] for n, film in episode.images.items()}
            numbers = {"observation.state": state, "action": action}
            self._dataset.add_frame({**frame, **numbers, "task": episode.instruction})
        # Encoding in parallel would fork a process that has threads.
        self._dataset.save_episode(parallel_encoding=False)

    def finish(self) -> None:
        """Write what belongs to all of them."""
        if self._dataset is not None:
            self._dataset.finalize()

    def __enter__(self) -> Self:
        """LeRobot makes the folder with the first episode."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close LeRobot's files; what a failure left is removed by who began it."""
        if kind is not None:
            self.finish()

    def _created(self, episode: Demonstration) -> Any:
        os.environ.setdefault("SVT_LOG", "1")  # the encoder's errors only
        from lerobot.datasets.lerobot_dataset import LeRobotDataset

        card = load_card(episode.card)
        features = {
            f"observation.images.{name}": {
                "dtype": "video",
                "shape": film.shape[1:],
                "names": ["height", "width", "channels"],
            }
            for name, film in episode.images.items()
        }
        for key, values, names in (
            ("observation.state", episode.states, card.state_order or card.recorded_state),
            ("action", episode.actions, card.action_order or card.recorded_action),
        ):
            shape = values.shape[1:]
            features[key] = {"dtype": "float32", "shape": shape, "names": list(names)}
        return LeRobotDataset.create(
            repo_id=f"local/{self._name}",
            fps=round(episode.rate),
            features=features,
            root=self._path,
            robot_type=episode.card,
        )


RECORDERS: dict[str, type[Hdf5Recorder] | type[LeRobotRecorder]] = {
    "hdf5": Hdf5Recorder,
    "lerobot": LeRobotRecorder,
}
