"""RLDS (TFDS) datasets such as Bridge, DROID and Open X-Embodiment, without TensorFlow.

features.json says what the TFRecord files beside it hold: one tf.train.Example an episode, in it
one list a feature, the steps' values one after the other.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from motus_adapters.readers.base import ColumnMap, EpisodeFile, OnBad, find_roots
from motus_adapters.readers.mapping import Part
from motus_adapters.readers.tfds import (
    FEATURES,
    STEPS,
    Spec,
    missing_parts,
    shards_of,
    step_specs,
    unpacked,
)
from motus_adapters.readers.tfrecord import Feature, opened_example, record_starts
from motus_embodiments import DataError

# Frames a second, which the files do not hold: port_droid.py of lerobot, any4lerobot's OXE table.
_RATES = {"droid": 15.0, "bridge": 5.0}
_LANGUAGE = (
    "steps/language_instruction",
    "steps/language_instruction_2",
    "steps/language_instruction_3",
    "steps/observation/natural_language_instruction",
    "episode_metadata/language_instruction",
)
_DROID = ("joint_position", "gripper_position")


class RldsReader:
    """features.json with `steps`, and <name>-<split>.tfrecord-<i>-of-<n> beside it.

    Layout: tensorflow_datasets' example_serializer.py and features; rates of Bridge and DROID are
    known by name, others are not stored.
    """

    name = "rlds"
    looked_for = "features.json with steps beside TFRecord files (RLDS, TFDS)"

    def detect(self, path: Path) -> bool:
        """Whether it is, or holds, a TFDS folder of episodes."""
        return bool(_roots(path))

    def episodes(self, path: Path, on_bad: OnBad | None = None) -> list[EpisodeFile]:
        """The records of every shard in order, split by split."""
        roots = _roots(path)
        found: list[EpisodeFile] = []
        for root in roots:
            prefix = "" if len(roots) == 1 else f"{root.relative_to(path)}/"
            found += _of_folder(root, prefix, on_bad)
        return found


@dataclass(frozen=True)
class RldsEpisode:
    """One record of a shard.

    Attributes:
        root: The folder of features.json.
        path: The shard.
        offset: Where the record's message begins.
        length: Its bytes.
        steps: Steps that are recorded.
        skip: Steps left out at the beginning.
    """

    root: Path
    path: Path
    offset: int
    length: int
    name: str
    steps: int
    skip: int
    cameras: tuple[str, ...]
    defaults: ColumnMap
    warnings: tuple[str, ...]

    @property
    def num_frames(self) -> int:
        """Steps, without those left out."""
        return self.steps - self.skip

    @property
    def columns(self) -> tuple[str, ...]:
        """Numeric features of a step."""
        return tuple(name for name, spec in step_specs(self.root).items() if spec.is_numeric)

    @property
    def files(self) -> tuple[Path, ...]:
        """The shard and the schema."""
        return (self.path, self.root / FEATURES)

    def column(self, name: str) -> np.ndarray:
        """A numeric feature, [T, n]."""
        spec = step_specs(self.root)[name]
        with opened_example(self.path, self.offset, self.length) as example:
            feature = self._feature(example, name)
            if feature.kind == "bytes":
                rows = [unpacked(blob, spec) for blob in feature.blobs()]
                values = np.stack(rows) if rows else np.zeros((0, 1))
            else:
                values = feature.numbers()
            if values.size != self.steps * spec.size:
                raise self._wrong(f"'{name}' has {values.size} numbers for {self.steps} steps")
            return values.reshape(self.steps, -1)[self.skip :]

    def frames(self, camera: str) -> Iterator[np.ndarray]:
        """The frames of a view; TFDS encodes true RGB."""
        name = _view_name(self.root, camera)
        spec = step_specs(self.root)[name]
        with opened_example(self.path, self.offset, self.length) as example:
            feature = self._feature(example, name)
            if feature.kind != "bytes":
                pixels = feature.numbers().astype(np.uint8).reshape(self.steps, *spec.shape)
                yield from pixels[self.skip :]
                return
            blobs = feature.blobs()
            if len(blobs) != self.steps:
                raise self._wrong(f"'{camera}' has {len(blobs)} frames for {self.steps} steps")
            for blob in blobs[self.skip :]:
                yield self._frame(blob, spec, camera)

    def _frame(self, blob: memoryview, spec: Spec, camera: str) -> np.ndarray:
        if spec.kind == "tensor":
            return unpacked(blob, spec)
        picture = _decoded(blob)
        if picture is None:
            raise self._wrong(f"a frame of '{camera}' is no picture")
        return picture

    def _feature(self, example: Mapping[str, Feature], name: str) -> Feature:
        feature = example.get(STEPS + name)
        if feature is None:
            raise self._wrong(f"'{name}' is missing")
        return feature

    def _wrong(self, what: str) -> DataError:
        return DataError(
            f"{self.path}, {self.name}: {what}",
            hint="the episode is damaged; leave it out with --skip-bad",
            where=str(self.path),
        )


def _roots(path: Path) -> list[Path]:
    """Folders at or below the path whose features.json describes steps."""
    if not path.is_dir():
        return []
    return [root for root in find_roots(path, FEATURES) if step_specs(root)]


def _view_name(root: Path, camera: str) -> str:
    """The feature of a camera, which is named without `observation/`."""
    return camera if camera in step_specs(root) else f"observation/{camera}"


def _of_folder(root: Path, prefix: str, on_bad: OnBad | None) -> list[RldsEpisode]:
    shards = shards_of(root)
    splits = {match["split"] for _, match in shards}
    found: list[RldsEpisode] = []
    counts: dict[str, int] = {}
    for path, match in shards:
        split = "" if len(splits) == 1 else f"{match['split']}/"
        try:
            records = record_starts(path)
        except DataError as error:
            if on_bad is None:
                raise
            on_bad(f"{prefix}{path.name}", error)
            continue
        for offset, length in records:
            number = counts[match["split"]] = counts.get(match["split"], -1) + 1
            name = f"{prefix}{split}episode_{number}"
            try:
                found.append(_describe(root, path, offset, length, name, match["name"]))
            except DataError as error:
                if on_bad is None:
                    raise
                on_bad(name, error)
    lines = missing_parts(root, shards, {split: count + 1 for split, count in counts.items()})
    if found and lines:
        first = found[0]
        found[0] = RldsEpisode(**{**vars(first), "warnings": (*lines, *first.warnings)})
    return found


def _describe(
    root: Path, path: Path, offset: int, length: int, name: str, dataset: str
) -> RldsEpisode:
    specs = step_specs(root)
    cameras = [n.removeprefix("observation/") for n, spec in specs.items() if spec.is_view]
    columns = [n for n, spec in specs.items() if spec.is_numeric]
    with opened_example(path, offset, length, checked=False) as example:
        steps = _count(example, specs)
        if steps == 0:
            raise DataError(
                f"{path}, {name}: there is no step in it",
                hint="leave it out with --skip-bad",
                where=str(path),
            )
        dummies = [camera for camera in cameras if _is_dummy(example, root, camera)]
        defaults = _defaults(dataset, columns, _language(example))
        skip = int(defaults.action_kind == "ee_delta" and _starts_with_zeros(example, steps))
        warnings = _remarks(example, specs, defaults, dummies)
    if skip:
        warnings.append("the first action is all zero, so the first step is left out")
    return RldsEpisode(
        root=root,
        path=path,
        offset=offset,
        length=length,
        name=name,
        steps=steps,
        skip=skip,
        cameras=tuple(camera for camera in cameras if camera not in dummies),
        defaults=defaults,
        warnings=tuple(warnings),
    )


def _count(example: Mapping[str, Feature], specs: Mapping[str, Spec]) -> int:
    """Steps of an episode, by its first feature of known size."""
    for name, spec in specs.items():
        feature = example.get(STEPS + name)
        if feature is None:
            continue
        if feature.kind == "bytes":
            return len(feature.blobs())
        if -1 not in spec.shape:
            return len(feature.numbers()) // spec.size
    return 0


def _language(example: Mapping[str, Feature]) -> str | None:
    """The first instruction that is not empty; DROID leaves some of its three empty."""
    for name in _LANGUAGE:
        feature = example.get(name)
        blobs = feature.blobs() if feature is not None and feature.kind == "bytes" else []
        told = bytes(blobs[0]).decode("utf-8", "replace").strip() if blobs else ""
        if told:
            return told
    return None


def _is_dummy(example: Mapping[str, Feature], root: Path, camera: str) -> bool:
    """Whether a view was not recorded: missing, or one (black) picture throughout, as in Bridge."""
    feature = example.get(STEPS + _view_name(root, camera))
    if feature is None:
        return True
    blobs = feature.blobs() if feature.kind == "bytes" else []
    return len(blobs) > 1 and all(blob == blobs[0] for blob in blobs)


def _starts_with_zeros(example: Mapping[str, Feature], steps: int) -> bool:
    feature = example.get(STEPS + "action")
    if feature is None or feature.kind != "float" or steps < 2:
        return False
    rows = feature.numbers().reshape(steps, -1)
    return not rows[0].any() and bool(rows[1:].any())


def _remarks(
    example: Mapping[str, Feature],
    specs: Mapping[str, Spec],
    defaults: ColumnMap,
    dummies: list[str],
) -> list[str]:
    lines = [
        f"camera '{camera}' shows one picture throughout some episodes, which is taken for a dummy"
        for camera in dummies
    ]
    actions = [n for n, s in specs.items() if n.startswith("action/") and s.is_numeric]
    if defaults.action is None and actions:
        lines.append(f"the action is in {', '.join(actions)}; name its columns in a mapping")
    source = example.get("episode_metadata/file_path")
    blobs = source.blobs() if source is not None and source.kind == "bytes" else []
    if blobs and b"/failure/" in bytes(blobs[0]):
        lines.append("some episodes are recorded failures (episode_metadata/file_path)")
    return lines


def _defaults(dataset: str, columns: list[str], task: str | None) -> ColumnMap:
    rate = next((rate for known, rate in _RATES.items() if dataset.startswith(known)), None)
    if {f"observation/{name}" for name in _DROID} <= set(columns):
        commanded = {f"action_dict/{name}" for name in _DROID} <= set(columns)
        return ColumnMap(
            state=_droid("observation"),
            action=_droid("action_dict") if commanded else None,
            action_kind="joint_position" if commanded else None,
            rate=rate,
            task=task,
        )
    states = ("observation/state", "observation/proprio")
    return ColumnMap(
        state=next(((name,) for name in states if name in columns), None),
        action=("action",) if "action" in columns else None,
        action_kind="ee_delta" if dataset.startswith("bridge") else None,
        rate=rate,
        task=task,
    )


def _droid(place: str) -> tuple[str | Part, ...]:
    """Joints in rad, and a gripper that is 0 open and 1 closed, the other way round than ours."""
    joints, gripper = (f"{place}/{name}" for name in _DROID)
    return Part(column=joints, unit="rad"), Part(column=gripper, closed=1.0, open=0.0)


def _decoded(blob: memoryview) -> np.ndarray | None:
    image = cv2.imdecode(np.frombuffer(blob, np.uint8), cv2.IMREAD_COLOR) if len(blob) else None
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
