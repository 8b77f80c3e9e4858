"""Draws one cartoon face, masked or not, from a description of a person and of a shot.

Coordinates are in units: a photo is 3 units wide and 4 high, x grows to the right and y downwards, and the
origin lies between and a little below the eyes. Colours are RGB, 0 to 255.
"""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.canvas import Canvas, Colour, Photo, Points, arc, box, lens, mix, outline, oval, rounded
from pipeline.looks import Looks, Shot

WHITE: Colour = (250, 250, 248)
INK: Colour = (38, 30, 34)
GREY_HAIR: Colour = (198, 198, 202)

OVERSAMPLING = 2  # drawn larger and shrunk, so that edges come out smooth
EYE_Y, NOSE_Y, MOUTH_Y, CHIN_Y = -0.05, 0.29, 0.55, 0.92


def _wall(canvas: Canvas, looks: Looks) -> None:
    dark, light = mix(looks.wall, INK, 0.16), mix(looks.wall, WHITE, 0.35)
    canvas.fill(box(-4, -4, 4, 4), looks.wall)
    if looks.wall_pattern == 1:
        for x in np.arange(-2.4, 2.5, 0.6):
            canvas.fill(box(x, -4, x + 0.24, 4), light, 0.6)
    elif looks.wall_pattern == 2:
        canvas.fill(box(0.55, -1.75, 1.4, -0.7), dark)
        canvas.fill(box(0.63, -1.67, 1.32, -0.78), light)
    elif looks.wall_pattern == 3:
        canvas.fill(box(-4, 0.5, 4, 4), dark)


def _head_width(looks: Looks) -> float:
    return 0.61 + 0.13 * looks.face_width


def _hair_behind(canvas: Canvas, looks: Looks, shot: Shot) -> None:
    width = _head_width(looks) + 0.1 + 0.14 * looks.hair_length
    length = -0.2 + 1.6 * looks.hair_length
    if looks.hair_length > 0.25:
        half = ((0.9, -1.0), (1.05, 0.3 * length), (1.1, length), (0.6, length + 0.1))
        left = [(-x * width, y) for x, y in reversed(half)]
        canvas.fill(rounded(*((x * width, y) for x, y in half), *left), mix(_hair_colour(looks), INK, 0.25))


def _hair_colour(looks: Looks) -> Colour:
    return mix(looks.hair, GREY_HAIR, looks.greyness)


def _body(canvas: Canvas, looks: Looks, shot: Shot) -> None:
    neck, reach = 0.24 + 0.12 * looks.shoulders, 0.95 + 0.35 * looks.shoulders
    shadow, trim = mix(looks.skin, INK, 0.2), mix(looks.clothes, WHITE, 0.45)
    slope = ((-reach, 1.35), (-0.3, 1.1), (0.3, 1.1), (reach, 1.35))
    canvas.fill(rounded(*slope, (reach + 0.25, 4), (-reach - 0.25, 4)), looks.clothes)
    canvas.fill(outline((-neck, 0.6), (neck, 0.6), (neck, 1.13), (0, 1.3), (-neck, 1.13)), shadow)
    if looks.collar == 0:
        neckline = arc(-neck - 0.04, neck + 0.04, 1.1, 0.24)
        canvas.fill(neckline, shadow)
        canvas.stroke(neckline, trim, 0.07)
    elif looks.collar == 1:
        canvas.fill(outline((-neck, 1.08), (neck, 1.08), (0, 1.6)), shadow)
        for side in (-1, 1):
            flap = ((side * neck, 1.0), (side * (neck + 0.2), 1.16), (side * 0.16, 1.54), (0, 1.38))
            canvas.fill(outline(*flap), trim)
    else:
        sides = neck + 0.06
        canvas.fill(box(-sides, 0.98, sides, 1.35), trim)


def _head_outline(looks: Looks, grow: float = 0.0) -> Points:
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    below = np.sin(angles).clip(0)
    squareness = 1.0 - (0.15 + 0.4 * looks.jaw) * below  # only the lower half of the face has a jaw
    across = np.sign(np.cos(angles)) * np.abs(np.cos(angles)) ** squareness * (1 - 0.12 * below)
    return np.column_stack([across * (_head_width(looks) + grow), np.sin(angles) * (CHIN_Y + grow)])


def _head(canvas: Canvas, looks: Looks, shot: Shot) -> None:
    edge = mix(looks.skin, INK, 0.3)
    ear_x = _head_width(looks) - 0.01
    for side in (-1, 1):
        canvas.fill(oval(side * ear_x, 0.08, 0.12, 0.2), edge)
        canvas.fill(oval(side * ear_x, 0.08, 0.09, 0.17), mix(looks.skin, looks.lips, 0.15))
        if looks.earrings:
            canvas.fill(oval(side * (ear_x + 0.04), 0.32, 0.05, 0.06), (244, 214, 110))
    canvas.fill(_head_outline(looks, 0.03), edge)
    canvas.fill(_head_outline(looks), looks.skin)


def _skin_marks(canvas: Canvas, looks: Looks, shot: Shot) -> None:
    line, face = mix(looks.skin, INK, 0.55), canvas.moved(shot.turn)
    for side in (-1, 1):
        face.fill(oval(side * 0.4, 0.34, 0.15, 0.11), (232, 110, 100), 0.1 + 0.3 * looks.blush)
        face.stroke(arc(side * 0.16, side * 0.42, 0.11, 0.09), line, 0.045, 0.75 * looks.bags)
        fold = outline((side * 0.2, 0.3), (side * 0.33, 0.46), (side * 0.34, 0.6))
        face.stroke(fold, line, 0.04, 0.8 * looks.wrinkles)
        for rise in (-0.07, 0.0, 0.07):
            face.stroke(outline((side * 0.5, EYE_Y + rise), (side * 0.6, EYE_Y + 2 * rise)), line, 0.03, looks.wrinkles)
    for y in (-0.62, -0.52, -0.42):
        face.stroke(arc(-0.3, 0.3, y, -0.04), line, 0.035, 0.8 * looks.wrinkles)
    for x, y in looks.spots:
        face.fill(oval(x, y, 0.035, 0.03), mix(looks.skin, (110, 66, 40), 0.45))


def _eyes(canvas: Canvas, looks: Looks, shot: Shot) -> None:
    face = canvas.moved(shot.turn)
    width, height = 0.13 + 0.04 * looks.eye_size, 0.08 + 0.08 * looks.eye_size
    hair = mix(mix(_hair_colour(looks), INK, 0.45), GREY_HAIR, 0.5 * looks.greyness)
    for side in (-1, 1):
        x = side * (0.26 + 0.06 * looks.eye_gap)
        gaze = x + 0.3 * shot.turn
        face.fill(oval(x, EYE_Y, width, height), WHITE)
        face.fill(oval(gaze, EYE_Y, 0.085, min(0.1, height)), looks.eyes)
        face.fill(oval(gaze, EYE_Y, 0.045, 0.05), INK)
        face.fill(oval(gaze + 0.03, EYE_Y - 0.035, 0.026, 0.026), WHITE)
        lid = arc(x - width, x + width, EYE_Y, 2 * height * shot.eyelids - height)
        lid[:, 1] += looks.droop * 0.14 * np.linspace(0, 1, len(lid))[::side]
        brow_bone = arc(x + width + 0.02, x - width - 0.02, EYE_Y - 0.03, -height - 0.03)
        face.fill(np.vstack([lid, brow_bone]), looks.skin)
        tip = outline((x + side * (width + 0.09 * looks.lashes), EYE_Y - 0.09 * looks.lashes))
        face.stroke(np.vstack([lid[::side], tip]), INK, 0.02 + 0.035 * looks.lashes)
        brow = arc(x - 1.1 * width, x + 1.1 * width, -0.25 + 0.03 * looks.droop, -0.06 - 0.02 * shot.smile)
        face.stroke(brow, hair, 0.03 + 0.085 * looks.brow)


def _nose_and_mouth(canvas: Canvas, looks: Looks, shot: Shot) -> None:
    face, shadow = canvas.moved(1.25 * shot.turn), mix(looks.skin, INK, 0.35)
    wing = 0.08 + 0.06 * looks.nose
    face.fill(oval(0, NOSE_Y - 0.04, wing, 0.08), mix(looks.skin, looks.lips, 0.22))
    face.stroke(arc(-wing, wing, NOSE_Y, 0.05), shadow, 0.035)
    face = canvas.moved(shot.turn)
    half, full = 0.2 + 0.05 * shot.smile, 0.03 + 0.09 * looks.lip_fullness
    bend = 0.04 + 0.08 * shot.smile
    face.fill(lens(0, half, MOUTH_Y, (bend + full, bend - full)), looks.lips)
    if shot.smile > 0.6:
        face.fill(lens(0, 0.8 * half, MOUTH_Y, (bend + 0.04, 0)), WHITE)
    else:
        face.stroke(arc(-half, half, MOUTH_Y, bend), mix(looks.lips, INK, 0.5), 0.03)


def _beard(canvas: Canvas, looks: Looks, shot: Shot) -> None:
    chin = _head_outline(looks)
    chin = chin[chin[:, 1] > 0.3]
    inner = arc(shot.turn - 0.34, shot.turn + 0.34, 0.7, 0.04)
    colour = mix(mix(_hair_colour(looks), INK, 0.2), GREY_HAIR, 0.4 * looks.greyness)
    canvas.fill(np.vstack([chin, inner]), colour, 0.8 * looks.beard)
    canvas.moved(shot.turn).stroke(arc(-0.22, 0.22, 0.46, -0.05), colour, 0.1, 0.8 * looks.beard)


def _mask(canvas: Canvas, looks: Looks, shot: Shot) -> None:
    mask = shot.mask
    if mask is None:
        return
    face, edge = canvas.moved(shot.turn), mix(mask.colour, INK, 0.25)
    left, right = mask.top + mask.tilt, mask.top - mask.tilt
    side = _head_width(looks) - 0.07
    low = mask.bottom - 0.22
    for x, y in ((-side, left), (side, right)):
        canvas.stroke(outline((x, y + 0.1), (1.14 * x, -0.02)), WHITE, 0.03)
    upper = ((-side, left + 0.02), (-0.25, left), (0, mask.top - 0.09), (0.25, right), (side, right + 0.02))
    lower = ((side, low), (0.4, mask.bottom + 0.03), (-0.4, mask.bottom + 0.03), (-side, low))
    body = rounded(*upper, *lower)
    face.fill(body, mask.colour)
    face.stroke(np.vstack([body, body[:1]]), edge, 0.025)
    if mask.pleats:
        for share in (0.35, 0.55, 0.75):
            y = mask.top + share * (mask.bottom - mask.top)
            face.stroke(arc(-0.85 * side, 0.85 * side, y, 0.03), edge, 0.02)


def _hair_front(canvas: Canvas, looks: Looks, shot: Shot) -> None:
    width, hair, bald = _head_width(looks) + 0.06, _hair_colour(looks), looks.baldness
    angles = np.linspace(np.pi, 2 * np.pi, 20)
    height = 0.99 - 0.08 * bald
    crown = np.column_stack([width * np.cos(angles), -0.1 + height * np.sin(angles)])
    front = -0.5 - 0.45 * bald + 0.22 * looks.fringe * (1 - bald)
    corner = max(front - 0.1 * bald, -0.6)
    temple = -0.1 + 0.3 * min(1.0, looks.hair_length)
    part = 0.35 * looks.part
    right = ((width, temple), (width - 0.1, temple), (width - 0.14, -0.3), (0.7 * width, corner))
    middle = ((part + 0.15, front), (part, front - 0.15), (part - 0.15, front))
    canvas.fill(rounded(*crown, *right, *middle, *((-x, y) for x, y in reversed(right))), hair)
    streak = mix(mix(looks.hair, WHITE, 0.2), GREY_HAIR, min(1.0, 2 * looks.greyness))
    for x in np.linspace(-0.8, 0.8, 7):
        root, end = part + 0.15 * x, x * width
        top = -0.1 - 0.93 * height * np.sqrt(1 - (root / width) ** 2)  # just inside the crown
        strand = outline((root, top), ((root + end) / 2 + 0.05 * x, top + 0.16), (end, -0.6 + 0.1 * abs(x)))
        canvas.stroke(strand, streak, 0.02, 0.7 * (1 - bald))


def _glasses(canvas: Canvas, looks: Looks, shot: Shot) -> None:
    if looks.glasses == 0:
        return
    face, frame = canvas.moved(shot.turn), mix((190, 160, 120), INK, looks.glasses)
    for side in (-1, 1):
        x = side * (0.26 + 0.06 * looks.eye_gap)
        ring = oval(x, EYE_Y + 0.02, 0.21, 0.17)
        face.fill(ring, WHITE, 0.18)
        face.stroke(np.vstack([ring, ring[:1]]), frame, 0.04)
        face.stroke(outline((x + side * 0.21, EYE_Y), (side * _head_width(looks), EYE_Y - 0.03)), frame, 0.04)
    face.stroke(arc(-0.07, 0.07, EYE_Y, -0.03), frame, 0.04)


PAINTERS = (_hair_behind, _body, _head, _skin_marks, _eyes, _nose_and_mouth, _beard, _mask, _hair_front, _glasses)


def _canvas(shot: Shot, width: int, height: int) -> tuple[Canvas, Canvas]:
    """The same pixels twice: seen by a still camera, and moved and rolled as the person is."""
    pixels = np.zeros((height, width, 3), np.uint8)
    unit = min(width / 3, height / 4)
    turn = np.deg2rad(shot.roll)
    still = np.array([[unit, 0, width / 2], [0, unit, 0.46 * height]])
    spin = shot.zoom * unit * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    posed = np.column_stack([spin, still[:, 2] + unit * np.array(shot.shift)])
    return Canvas(pixels, still), Canvas(pixels, posed)


def _photograph(pixels: Photo, shot: Shot, size: tuple[int, int]) -> Photo:
    """Shrink the drawing and add light, blur and sensor noise."""
    image: npt.NDArray[Any] = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    if shot.blur > 0:
        image = cv2.GaussianBlur(image, (0, 0), shot.blur)
    side = np.linspace(-1, 1, size[0], dtype=np.float32)[None, :, None] * shot.side_light
    tint = np.array([1 + 0.08 * shot.warmth, 1, 1 - 0.08 * shot.warmth], np.float32)
    noise = np.random.default_rng(shot.noise_seed).standard_normal(image.shape, dtype=np.float32)
    lit = image.astype(np.float32) * (shot.brightness * (1 + 0.2 * side)) * tint + shot.noise * noise
    return lit.round().clip(0, 255).astype(np.uint8)


def draw_face(looks: Looks, shot: Shot, size: tuple[int, int]) -> Photo:
    """The photo of one person in one shot.

    Args:
        looks: The person.
        shot: The circumstances, mask included.
        size: Width and height in pixels.

    Returns:
        (height, width, 3) RGB.
    """
    still, posed = _canvas(shot, size[0] * OVERSAMPLING, size[1] * OVERSAMPLING)
    _wall(still, looks)
    for paint in PAINTERS:
        paint(posed, looks, shot)
    return _photograph(still.pixels, shot, size)


def encode_photo(photo: Photo, suffix: str) -> bytes:
    """The bytes of an image file; ``suffix`` such as ``.jpg`` or ``.png`` names its format."""
    _, encoded = cv2.imencode(suffix, cv2.cvtColor(photo, cv2.COLOR_RGB2BGR))
    return encoded.tobytes()
