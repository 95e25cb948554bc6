"""Video files beside or instead of numbers: their length without decoding, and their frames."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from motus_adapters.unified.video import open_video, probe_video, read_video
from motus_embodiments import DataError

SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")


@dataclass(frozen=True)
class VideoFile:
    """What a video file says about itself."""

    path: Path
    height: int
    width: int
    frames: int
    rate: float | None


def look_at(path: Path) -> VideoFile:
    """Size, frames and rate of a video; no frame is decoded.

    Raises:
        DataError: The file is missing, damaged, or holds no frame.
    """
    height, width, frames, rate = probe_video(path)
    if frames <= 0:
        # Matroska and fragmented mp4 do not tell; the packets are counted.
        frames = _packets(path)
    if frames <= 0:
        raise DataError(
            f"{path} holds no frame", hint="leave it out with --skip-bad", where=str(path)
        )
    # Time stamps of cameras jitter: 29.97 stays what it is, 29.9998 is 30.
    near = round(rate)
    return VideoFile(
        path, height, width, frames, (near if abs(rate - near) < 0.005 else rate) or None
    )


def video_of(path: Path, num_frames: int, warnings: list[str]) -> VideoFile:
    """The video of an episode whose length is known; what is too long is told.

    Raises:
        DataError: The video is damaged or too short.
    """
    video = look_at(path)
    if video.frames < num_frames:
        raise DataError(
            f"{path} has {video.frames} frames, its data {num_frames} rows",
            hint="the recording is cut short; leave it out with --skip-bad",
            where=str(path),
        )
    if video.frames > num_frames:
        warnings.append("videos with more frames than rows of data; the last ones are left out")
    return video


def frames_of(path: Path, num_frames: int) -> Iterator[np.ndarray]:
    """The first frames of a video, uint8 RGB; DataError where it ends before."""
    return read_video(path, count=num_frames)


def _packets(path: Path) -> int:
    """Frames, counted without decoding.

    Raises:
        DataError: The file is damaged, or ends before the time that its header tells.
    """
    count, shown = 0, 0.0
    try:
        with open_video(path) as container:
            for packet in container.demux(video=0):
                if packet.size:
                    count += 1
                    shown += float((packet.duration or 0) * packet.time_base)
            told = (container.duration or 0) / av.time_base
        # Half a frame for the rounding of time stamps, one for a last frame of unknown length.
        if shown and shown < told - 1.5 * shown / count:
            raise DataError(
                f"{path} has frames for {shown:.2f} s; its header tells of {told:.2f} s",
                hint="the recording is cut short; leave it out with --skip-bad",
                where=str(path),
            )
        return count
    except (av.FFmpegError, OSError) as error:
        raise DataError(
            f"cannot read {path} as a video: {error}",
            hint="is the file complete? copy it again, or leave it out with --skip-bad",
            where=str(path),
        ) from error
