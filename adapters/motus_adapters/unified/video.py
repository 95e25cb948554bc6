"""One h264 file an episode: written so that the same frames give the same bytes."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from motus_embodiments import DataError

# The bytes are a function of the frames: one thread, fixed settings, and no macroblock tree, which
# in x264 reads memory it has not written (of 100 encodings of the same 20 frames of 320x240, 46
# differed; none without it). A key frame every fifth frame and no B-frames keep a random read
# short. Without partitions and CABAC both writing and reading take a third less time, at the same
# error, for a tenth more bytes.
_OPTIONS = {
    "preset": "veryfast",
    "crf": "18",
    "g": "5",
    "bf": "0",
    "x264-params": "threads=1:mbtree=0:rc-lookahead=0:partitions=none:cabac=0",
}


class VideoWriter:
    """Writes uint8 RGB frames to an h264 yuv420p mp4.

    Args:
        path: The file, replaced if present.
        rate: Frames a second.
        size: (width, height), both even.
    """

    def __init__(self, path: Path, rate: float, size: tuple[int, int]) -> None:
        self._container = av.open(str(path), "w", format="mp4")
        fraction = Fraction(rate).limit_denominator(1001)
        self._stream = self._container.add_stream("libx264", rate=fraction, options=_OPTIONS)
        self._stream.width, self._stream.height = size
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.thread_count = 1
        self._count = 0

    def add(self, frame: np.ndarray) -> None:
        """Append one frame, uint8 [height, width, 3]."""
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture.pts = self._count
        self._count += 1
        self._container.mux(self._stream.encode(picture))

    def close(self) -> None:
        """Flush the encoder and finish the file."""
        try:
            self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()

    def abandon(self) -> None:
        """Release the encoder after a failure; the file is worthless."""
        try:
            self._container.close()
        except (OSError, av.FFmpegError):
            return


def open_video(path: Path) -> Any:
    """A video open for reading; without `file:`, `rec-10:30.mp4` has the protocol `rec-10`."""
    return av.open(f"file:{path}", metadata_errors="replace")


def read_video(path: Path, *, start: float = 0.0, count: int | None = None) -> Iterator[np.ndarray]:
    """Decode frames of the first video stream, one at a time.

    Args:
        path: Any video FFmpeg reads.
        start: Seconds into the file of the first frame wanted.
        count: Frames wanted; None for all to the end.

    Yields:
        uint8 RGB [h, w, 3].

    Raises:
        DataError: The file is missing, damaged, or ends before `count` frames.
    """
    found = 0
    try:
        with open_video(path) as container:
            stream = _first_stream(container, path)
            stream.codec_context.thread_count = 1
            base = stream.time_base or Fraction(1, 90_000)
            # Half a frame of slack: time stamps of concatenated files are rounded.
            slack = 0.5 / float(stream.average_rate or 30)
            if start > 0:
                container.seek(max(0, int((start - slack) / base)), stream=stream)
            for frame in container.decode(stream):
                if start > 0 and float((frame.pts or 0) * base) < start - slack:
                    continue
                if count is not None and found == count:
                    return
                if frame.is_corrupt:  # the decoder filled in what it could not read
                    raise DataError(
                        f"frame {found} of {path} is damaged",
                        hint="copy the file again, or leave it out with --skip-bad",
                        where=str(path),
                    )
                found += 1
                yield _upright(frame)
    except (av.FFmpegError, OSError) as error:
        raise DataError(
            f"cannot decode {path} after {found} frames: {error}",
            hint="is the file complete? copy it again, or leave it out with --skip-bad",
            where=str(path),
        ) from error
    if count is not None and found < count:
        raise DataError(
            f"{path} ends after {found} frames; its data has {count} rows",
            hint="the recording is cut short; leave it out with --skip-bad",
            where=str(path),
        )


def _upright(frame: av.VideoFrame) -> np.ndarray:
    """Turned as a player shows it: a phone held upright notes that its pictures lie on the side."""
    pixels: np.ndarray = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90)  # counterclockwise
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def _first_stream(container: Any, path: Path) -> Any:
    streams = container.streams.video
    # A damaged header can leave a stream without a codec.
    if not streams or streams[0].codec_context is None:
        raise DataError(
            f"{path} holds no video stream that can be decoded",
            hint="is the file complete? copy it again, or leave it out with --skip-bad",
            where=str(path),
        )
    return streams[0]


def probe_video(path: Path) -> tuple[int, int, int, float]:
    """(height, width, frames, rate) as the file itself says, without decoding.

    Raises:
        DataError: The file is missing, damaged or holds no video.
    """
    try:
        with open_video(path) as container:
            stream = _first_stream(container, path)
            rate = float(stream.average_rate or 0)
            return stream.height, stream.width, stream.frames, rate
    except (av.FFmpegError, OSError) as error:
        raise DataError(
            f"cannot open {path} as a video: {error}",
            hint="is the file complete? copy it again, or leave it out with --skip-bad",
            where=str(path),
        ) from error
