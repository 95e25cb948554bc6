"""Decoding a JPEG no larger than it is needed: libjpeg can leave out what would be scaled away.

A picture at a half, a quarter or an eighth of its size takes a half to a third of the time, and
differs from one that is decoded whole and then averaged by half a grey level.
"""

import cv2

_START = b"\xff\xd8"
_LARGEST = 2**26  # pixels; no camera has more, but a few damaged bytes may say so
_HEAD = 4096  # bytes; a size further in is not looked for
_NO_FRAME = (0xC4, 0xC8, 0xCC)  # markers among those of frames that are none
_REDUCED = {
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


def read_flag(content: bytes, enough: tuple[int, int] | None) -> int | None:
    """The flag of `cv2.imdecode` for a picture of which (height, width) is enough.

    None for a JPEG that says it is larger than any picture: libjpeg would make up what it lacks.
    """
    size = jpeg_size(content)
    if size is not None and size[0] * size[1] > _LARGEST:
        return None
    if enough is None or size is None:
        return cv2.IMREAD_COLOR
    spare = min(size[0] / enough[0], size[1] / enough[1])
    fitting = [flag for factor, flag in _REDUCED.items() if factor <= spare]
    return fitting[-1] if fitting else cv2.IMREAD_COLOR


def jpeg_size(content: bytes) -> tuple[int, int] | None:
    """(height, width) as the header tells it, None where this is no JPEG or tells it late.

    ISO/IEC 10918-1, annex B: segments of a marker and a length, up to the one that begins a frame.
    """
    head = content[:_HEAD]
    at = len(_START)
    while head.startswith(_START) and at + 9 <= len(head) and head[at] == 0xFF:
        marker = head[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME:
            height, width = (int.from_bytes(head[at + i : at + i + 2]) for i in (5, 7))
            return height, width
        at += 2 + int.from_bytes(head[at + 2 : at + 4])
    return None
