"""What every reader owes: the tests that each layout runs through, one subclass a layout.

    from layouts.act import write_act
    from reader_contract import ReaderContract

    class TestActRaw(ReaderContract):
        format, channels, state_name = "act", (14, 14), "observations/qpos"

        def write(self, folder, episodes):
            return write_act(folder, episodes)

A subclass says what is written (attributes and `write`) and what then has to come back
(`state`, `action`); the traps of its layout are tests of its own.
"""

import pickle
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import h5py
import numpy as np
import pytest
from layouts.truth import Truth, make_truth

from motus_adapters import open_source
from motus_adapters.readers import FORMATS, content_hash, get_reader
from motus_embodiments import DataError, UsageError


class ReaderContract:
    """The tests; a subclass says what is written and where.

    Attributes:
        format: Name of the reader.
        cameras: Cameras of the truths.
        camera_name: What the reader calls a camera, with {} for the truth's name.
        size: (height, width) of the frames.
        channels: Widths of the truths' state and action.
        count: Episodes, more than ten so that numeric order is not alphabetical order.
        task: What the reader must tell as the task.
        rate: The same for the rate.
        state_name: A column that is the truth's state as it is; "" where there is none.
        tolerance: Largest mean absolute error of a pixel; JPEG and video need some.
        close: Largest error of a number.
        separate: Whether one damaged file leaves the other episodes readable.
        pickled: Largest size of a recording sent to a worker, in bytes.
    """

    format: str
    cameras: tuple[str, ...] = ("cam_high", "cam_wrist")
    camera_name = "{}"
    size = (48, 64)
    channels = (8, 7)
    count = 11
    task: str | None = None
    rate: float | None = None
    state_name = ""
    tolerance = 0.0
    close = 1e-6
    separate = True
    pickled = 4000

    def write(self, folder: Path, episodes: list[Truth]) -> Path:
        """Write the episodes; gives back what a user would name as the source."""
        raise NotImplementedError

    def state(self, truth: Truth) -> np.ndarray | None:
        """The state that must come back."""
        return truth.state

    def action(self, truth: Truth) -> np.ndarray | None:
        """The action that must come back; None where the layout has none."""
        return truth.action

    def frames(self, truth: Truth, camera: str) -> np.ndarray:
        """The frames that must come back."""
        return truth.frames[camera]

    def truth(self, index: int) -> Truth:
        """One episode to write."""
        return make_truth(index, self.cameras, self.channels, self.task, self.rate, self.size)

    def breakable(self, path: Path) -> Path:
        """A file without whose second half something must be missed: numbers or frames."""
        if path.is_file():
            return path
        return next(p for p in sorted(path.rglob("*")) if p.is_file())

    @pytest.fixture(scope="class")
    @classmethod
    def truths(cls) -> list[Truth]:
        return [cls().truth(i) for i in range(cls.count)]

    @pytest.fixture(scope="class")
    @classmethod
    def written(cls, tmp_path_factory, truths) -> Path:
        """The source, written once; not to be changed."""
        return cls().write(tmp_path_factory.mktemp("source") / "recordings", truths)

    @pytest.fixture
    def own(self, tmp_path) -> Path:
        """A smaller source of the test's own, to be damaged."""
        return self.write(tmp_path / "recordings", [self.truth(i) for i in range(3)])

    def test_is_recognised_as_this_format_alone(self, written):
        assert open_source(written)[0].name == self.format
        assert [name for name in FORMATS if get_reader(name).detect(written)] == [self.format]
        assert get_reader(self.format).looked_for

    def test_nothing_is_recognised_in_an_empty_folder(self, tmp_path):
        assert not get_reader(self.format).detect(tmp_path)

    def test_listing_decodes_no_frame(self, written, monkeypatch):
        refuse_frames(monkeypatch)
        _, recordings = open_source(written)
        assert sum(r.num_frames for r in recordings) > 0

    def test_episodes_come_in_numeric_order(self, written, truths):
        _, recordings = open_source(written)
        assert [r.num_frames for r in recordings] == [len(t.state) for t in truths]
        assert len({r.name for r in recordings}) == len(truths)

    def test_numbers_come_back(self, written, truths):
        for recording, truth in zip(open_source(written)[1], truths, strict=True):
            for found, wanted in (
                (recording.state, self.state(truth)),
                (recording.action, self.action(truth)),
            ):
                assert (found is None) == (wanted is None)
                if found is not None:
                    assert found.dtype == np.float64
                    assert len(found) == recording.num_frames
                    assert np.isfinite(found).all()
                    np.testing.assert_allclose(found, wanted, rtol=0, atol=self.close)

    def test_every_column_can_be_read_and_fits(self, written):
        recording = open_source(written)[1][0]
        for name in recording.episode.columns:
            values = recording.episode.column(name)
            assert len(values) == recording.num_frames, name
            assert values.dtype.kind in "fiub", name

    def test_rate_and_task(self, written):
        for recording in open_source(written)[1]:
            assert recording.task == self.task
            assert recording.rate == pytest.approx(self.rate)

    def test_frames_come_back_in_colour(self, written, truths):
        _, recordings = open_source(written)
        names = {self.camera_name.format(c) for c in self.cameras}
        for index in (0, 2):
            assert set(recordings[index].cameras) == names
            for camera in self.cameras:
                stream = recordings[index].frames(self.camera_name.format(camera))
                assert isinstance(stream, Iterator), "frames are streamed, not listed"
                frames = list(stream)
                wanted = self.frames(truths[index], camera)
                assert len(frames) == recordings[index].num_frames
                assert all(frame.dtype == np.uint8 for frame in frames)
                assert np.stack(frames).shape == wanted.shape
                error = np.abs(np.stack(frames).astype(int) - wanted.astype(int)).mean()
                assert error <= self.tolerance

    def test_worker_processes_can_load_it(self, written):
        recording = open_source(written)[1][2]
        sent = pickle.dumps(recording)
        assert len(sent) < self.pickled
        again = pickle.loads(sent)
        assert again.name == recording.name
        for found, wanted in ((again.state, recording.state), (again.action, recording.action)):
            np.testing.assert_array_equal(found, wanted)
        for camera in recording.cameras[:1]:
            np.testing.assert_array_equal(
                next(again.frames(camera)), next(recording.frames(camera))
            )

    def test_hash_follows_the_content(self, own):
        _, recordings = open_source(own)
        before = content_hash(recordings)
        assert before == content_hash(open_source(own)[1])
        file = self.breakable(own)
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(bytes(content))
        assert content_hash(recordings) != before

    @pytest.mark.parametrize("damage", ["truncated", "emptied", "overwritten"])
    def test_a_damaged_file_is_named(self, own, damage):
        file = self.breakable(own)
        damage_file(file, damage)
        with pytest.raises(DataError) as caught:
            read_everything(own, self.format)
        assert caught.value.where is not None
        assert file.name in caught.value.message
        assert caught.value.hint

    def test_bad_episodes_can_be_left_out(self, own):
        if not self.separate:
            pytest.skip("all episodes share one file")
        damage_file(self.breakable(own), "overwritten")
        bad = []
        _, recordings = open_source(own, on_bad=lambda name, error: bad.append(name))
        for recording in recordings:
            try:
                read_recording(recording)
            except DataError:
                bad.append(recording.name)
        assert len(bad) == 1
        assert len({r.name for r in recordings} - set(bad)) == 2

    def test_mapping_cuts_columns(self, written, truths):
        if not self.state_name:
            pytest.skip("no column is the state as it is")
        mapping = {"state": [f"{self.state_name}[1:3]", f"{self.state_name}[0]"], "action": []}
        recording = open_source(written, mapping=mapping)[1][0]
        np.testing.assert_allclose(recording.state, truths[0].state[:, [1, 2, 0]])
        assert recording.action is None

    def test_unknown_column_gets_the_nearest(self, written):
        if not self.state_name:
            pytest.skip("no column is the state as it is")
        _, recordings = open_source(written, mapping={"state": [self.state_name + "x"]})
        with pytest.raises(UsageError) as caught:
            _ = recordings[0].state
        assert self.state_name in (caught.value.hint or "")


def read_recording(recording) -> None:
    """Everything that a conversion would read."""
    _ = recording.state, recording.action
    for camera in recording.cameras:
        assert sum(1 for _ in recording.frames(camera)) == recording.num_frames


def read_everything(path: Path, name: str = "auto") -> None:
    """The same for a whole source."""
    for recording in open_source(path, name)[1]:
        read_recording(recording)


def damage_file(file: Path, damage: str) -> None:
    """Cut off its second half, all of it, or put noise over its whole."""
    content = file.read_bytes()
    noise = np.random.default_rng(0).bytes(len(content))
    file.write_bytes(
        {"truncated": content[: len(content) // 2], "emptied": b"", "overwritten": noise}[damage]
    )


def refuse_frames(monkeypatch) -> None:
    """Let every decoder of frames fail: OpenCV, FFmpeg, and reading pictures out of HDF5."""

    def refuse(*_, **__):
        raise AssertionError("a frame was decoded")

    class Packets:
        """An FFmpeg container that can be looked at and demultiplexed, but not decoded."""

        def __init__(self, container):
            self.container = container

        def __enter__(self):
            self.container.__enter__()
            return self

        def __exit__(self, *problem):
            return self.container.__exit__(*problem)

        def __getattr__(self, name):
            return refuse if name == "decode" else getattr(self.container, name)

    whole, opened = h5py.Dataset.__getitem__, av.open

    def rows(dataset, *arguments, **options):
        if dataset.ndim >= 4 and dataset.dtype == np.uint8:
            raise AssertionError(f"frames of {dataset.name} were read")
        return whole(dataset, *arguments, **options)

    monkeypatch.setattr(cv2, "imdecode", refuse)
    monkeypatch.setattr(av, "open", lambda *a, **k: Packets(opened(*a, **k)))
    monkeypatch.setattr(h5py.Dataset, "__getitem__", rows)
