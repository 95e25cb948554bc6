"""Dense inverse search, the embedded flow estimator: begun again where lost, and what rests."""

from typing import Literal

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray

# The search has lost a view if at the places that the flow names the pictures still differ by more
# than so many levels, and than this share of what they differ by at the same places. It begins
# again if so many of so many features, corners by so many levels, are found once more, from the
# similarity that most of them are within so many pixels of.
_LEFT, _LOST = 4.0, 0.25
_FEATURES, _CORNER, _FOUND, _ALONG = 500, 5, 8, 4.0
# Noise is how much the stillest tenth of a view changes, of the pixels that differ from a neighbour
# by so many levels of grey.
_CONTRAST, _STILLEST = 5, 0.1
# A view moves as a whole if more than this share of them changes by as many levels, and as many
# times the noise; a greater share where they are few, for then an arm is most of what there is ...
_MOVED, _MOVED_BARE, _BARE, _CHANGED, _NOISY = 0.55, 0.7, 0.12, 2.0, 1.5
# ... and then motion must explain the picture around a pixel no worse than rest, over a window of
# so many pixels; in a view that stands still, better by so many levels and so many times the
# noise, over a narrower one.
_MOVING_WINDOW, _WINDOW = 9, 5
_BETTER, _THAN_NOISE = 0.25, 0.6


class DisFlow:
    """Dense inverse search of OpenCV (Kroeger et al. 2016), looked at twice.

    The search loses a view that moves as a whole by many pixels, as that of a narrow wrist camera.
    Where it leaves much of a change unexplained, it begins again from the similarity that most
    features agree on (ORB, Rublee et al. 2011), and what explains more is kept.

    It also finds motion in smooth surfaces, where any motion explains the pictures, and spreads
    that of an arm over what is behind it. So the pictures are compared twice, at the places that
    the flow names and at the same places; where the first is no better, the flow is zero.

    On one thread, since OpenCV splits the search among threads and the result with it.

    Args:
        effort: `medium` and `ultrafast` are OpenCV's presets, which stop at half and at a quarter
            of the resolution; `fine` is medium down to the full resolution, at three to four
            times the cost.
    """

    width = 256  # DIS loses small motion on smaller pictures

    def __init__(self, effort: Literal["ultrafast", "medium", "fine"] = "medium") -> None:
        self.name = f"dis-{effort}-orb-rest-{self.width}"
        # Two, since one that was given a flow to begin from keeps it for every later pair, and
        # crashes if that has another size.
        self._dis, self._again = _inverse_search(effort), _inverse_search(effort)

    def flow(
        self, previous: UInt8[ndarray, "n h w 3"], following: UInt8[ndarray, "n h w 3"]
    ) -> Float[ndarray, "n h w 2"]:
        """See `FlowEstimator.flow`."""
        out = np.empty((*previous.shape[:-1], 2), np.float32)
        height, width = previous.shape[1:3]
        here = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
        threads = cv2.getNumThreads()
        if threads != 1:
            cv2.setNumThreads(1)
        try:
            for pair, field in zip(zip(previous, following, strict=True), out, strict=True):
                before, after = (cv2.cvtColor(view, cv2.COLOR_RGB2GRAY) for view in pair)
                field[:] = self._search(before, after, here)
        finally:
            if threads != 1:
                cv2.setNumThreads(threads)
        return out

    def _search(
        self,
        before: UInt8[ndarray, "h w"],
        after: UInt8[ndarray, "h w"],
        here: Float[ndarray, "h w 2"],
    ) -> Float[ndarray, "h w 2"]:
        change = cv2.absdiff(before, after)
        field = self._dis.calc(before, after, None)
        missed = _missed(before, after, field + here)
        lost = missed.mean() > max(_LEFT, _LOST * change.mean())
        if lost and (places := _similar(before, after, here)) is not None:
            again = self._again.calc(before, after, places - here)
            missed_again = _missed(before, after, again + here)
            if missed_again.mean() < missed.mean():
                field, missed = again, missed_again
        field[_rests(before, change, missed)] = 0
        return field


def _inverse_search(effort: str) -> cv2.DISOpticalFlow:
    preset = "ULTRAFAST" if effort == "ultrafast" else "MEDIUM"
    search = cv2.DISOpticalFlow.create(getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{preset}"))
    if effort == "fine":
        search.setFinestScale(0)
    return search


def _missed(
    before: UInt8[ndarray, "h w"], after: UInt8[ndarray, "h w"], places: Float[ndarray, "h w 2"]
) -> UInt8[ndarray, "h w"]:
    """By how many levels the later picture differs at the places that a flow names."""
    border = cv2.BORDER_REPLICATE
    return cv2.absdiff(before, cv2.remap(after, places, None, cv2.INTER_LINEAR, borderMode=border))


def _similar(
    before: UInt8[ndarray, "h w"], after: UInt8[ndarray, "h w"], here: Float[ndarray, "h w 2"]
) -> Float[ndarray, "h w 2"] | None:
    """Where each pixel comes to by the similarity of most features; none where few are found."""
    orb = cv2.ORB.create(_FEATURES, fastThreshold=_CORNER)
    corners, told = orb.detectAndCompute(before, None)
    found, shown = orb.detectAndCompute(after, None)
    if told is None or shown is None:
        return None
    pairs = cv2.BFMatcher.create(cv2.NORM_HAMMING, crossCheck=True).match(told, shown)
    if len(pairs) < _FOUND:
        return None
    similarity, _ = cv2.estimateAffinePartial2D(
        np.array([corners[pair.queryIdx].pt for pair in pairs]),
        np.array([found[pair.trainIdx].pt for pair in pairs]),
        ransacReprojThreshold=_ALONG,
    )
    return None if similarity is None else cv2.transform(here, similarity)


def _rests(
    before: UInt8[ndarray, "h w"], change: UInt8[ndarray, "h w"], missed: UInt8[ndarray, "h w"]
) -> Bool[ndarray, "h w"]:
    """Where the pictures are as alike at the same place as at the places that a flow names."""
    near = _mean(change, _WINDOW)
    contrast = cv2.morphologyEx(before, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > _CONTRAST
    told = near[contrast]
    noise = float(np.quantile(told[::8], _STILLEST)) if told.size else 0.0  # an eighth tells it
    changed = np.count_nonzero(told >= max(_CHANGED, _NOISY * noise))
    if changed > told.size * (_MOVED_BARE if told.size < _BARE * near.size else _MOVED):
        return _mean(change, _MOVING_WINDOW) < _mean(missed, _MOVING_WINDOW)
    return near < _mean(missed, _WINDOW) + _BETTER + _THAN_NOISE * noise


def _mean(levels: UInt8[ndarray, "h w"], window: int) -> Float[ndarray, "h w"]:
    return cv2.boxFilter(levels, cv2.CV_32F, (window, window))
