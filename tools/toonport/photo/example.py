"""A drawn face, for tests and for trying things out: detectors take it for a face, and nobody has rights in it."""

import cv2
import numpy as np

from toonport.photo.picture import Picture

SIDE = 400  # of the grid on which the face is laid out
BACKGROUND, HAIR, SKIN, LINES = (120, 160, 200), (60, 40, 30), (225, 185, 160), (70, 48, 38)
SHOULDERS, NECK, SOCKET, EYE, NOSE, MOUTH = (
    (90, 60, 120),
    (190, 150, 130),
    (190, 145, 125),
    (245, 245, 245),
    (235, 200, 178),
    (165, 75, 80),
)
# (centre, half axes, colour), in drawing order
HEAD = (
    ((200, 215), (118, 160), HAIR),
    ((200, 400), (150, 90), SHOULDERS),
    ((200, 335), (40, 40), NECK),
    ((200, 220), (92, 125), SKIN),
    ((200, 110), (92, 30), HAIR),
    ((200, 245), (11, 34), NOSE),
    ((200, 297), (32, 12), MOUTH),
    ((200, 297), (32, 2), HAIR),
    ((190, 263), (4, 3), LINES),
    ((210, 263), (4, 3), LINES),
)
EYES = (((0, 200), (26, 16), SOCKET), ((0, 203), (20, 9), EYE), ((0, 203), (9, 9), HAIR))
ARCS = (((0, 198), (22, 11), 3), ((0, 182), (26, 9), 6))  # lids and brows: centre, half axes, thickness


def drawn_face(side: int = SIDE) -> Picture:
    """Return a face from the front with hair and shoulders before a plain background, RGB uint8 [side, side, 3]."""
    pixels = np.full((SIDE, SIDE, 3), BACKGROUND, np.uint8)
    for centre, axes, colour in HEAD:
        cv2.ellipse(pixels, centre, axes, 0, 0, 360, colour, -1, cv2.LINE_AA)
    for x in (160, 240):
        for (_, y), axes, colour in EYES:
            cv2.ellipse(pixels, (x, y), axes, 0, 0, 360, colour, -1, cv2.LINE_AA)
        for (_, y), axes, thickness in ARCS:
            cv2.ellipse(pixels, (x, y), axes, 0, 190, 350, LINES, thickness, cv2.LINE_AA)
    soft = cv2.GaussianBlur(pixels, (0, 0), 2)
    return np.asarray(cv2.resize(soft, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
