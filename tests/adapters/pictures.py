"""Pictures with enough texture to be followed, and their shifted twins."""

import cv2
import numpy as np


def texture(height, width):
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (height // 6, width // 6, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def shifted(picture, right, down):
    matrix = np.float32([[1, 0, right], [0, 1, down]])
    size = picture.shape[1::-1]
    return cv2.warpAffine(picture, matrix, size, borderMode=cv2.BORDER_REFLECT)
