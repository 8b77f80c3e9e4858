"""Descriptions of drawn people and of the shots that are taken of them."""

from dataclasses import dataclass

from pipeline.canvas import Colour


@dataclass(frozen=True, slots=True)
class Looks:
    """What the shots of one person share; plain numbers run from 0 (none) to 1 (very much)."""

    skin: Colour
    hair: Colour
    eyes: Colour
    lips: Colour
    clothes: Colour
    wall: Colour
    wall_pattern: int  # 0 plain, 1 stripes, 2 a picture frame, 3 panels
    collar: int  # 0 round, 1 open shirt, 2 high neck
    part: float  # -1 to 1, where the hair is parted
    greyness: float
    hair_length: float
    fringe: float
    baldness: float
    face_width: float
    jaw: float
    brow: float
    eye_size: float
    eye_gap: float
    lashes: float
    droop: float
    bags: float
    wrinkles: float
    blush: float
    nose: float
    lip_fullness: float
    beard: float
    shoulders: float
    glasses: float  # 0 for none, otherwise how dark the frame is
    earrings: bool
    spots: tuple[tuple[float, float], ...]  # x, y of each mark on the skin


@dataclass(frozen=True, slots=True)
class Mask:
    """One mask: ``top`` and ``bottom`` edge in units, ``tilt`` in units between its two sides."""

    colour: Colour
    top: float
    bottom: float
    tilt: float
    pleats: bool


@dataclass(frozen=True, slots=True)
class Shot:
    """What differs between the shots of one person."""

    mask: Mask | None
    shift: tuple[float, float]  # units
    zoom: float  # 1 fills the frame as designed
    roll: float  # degrees
    turn: float  # units that the features move to the side
    smile: float  # -1 to 1
    eyelids: float  # 0 open, 1 closed
    brightness: float  # 1 leaves the light as it is
    warmth: float  # -1 blue to 1 yellow
    side_light: float  # -1 from the left to 1 from the right
    blur: float  # pixels
    noise: float  # standard deviation, grey levels
    noise_seed: int
