"""A person as a jointed figure in space, in any pose and from any side.

Every part (a thigh, the face, a shoe) is the convex hull of a few balls. Parts are painted from back to
front. In the coordinates, x points right, y down and z towards the viewer; the unit is the height of the
standing figure.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from attn_mm.datasets.generated.polygons import arc

# COCO's keypoints in their order. Left and right are the person's own.
KEYPOINTS = (
    *("nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder"),
    *("left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip"),
    *("left_knee", "right_knee", "left_ankle", "right_ankle"),
)
SIDES = {"left": 1, "right": -1}

# The parts on which a keypoint is visible.
JOINTS = {
    "shoulder": ("upper_arm", "torso"),
    "elbow": ("upper_arm", "forearm"),
    "wrist": ("forearm", "hand"),
    "hip": ("thigh", "torso"),
    "knee": ("thigh", "shin"),
    "ankle": ("shin", "foot"),
    "ear": ("ear",),
    "eye": ("face", "nose"),
    "nose": ("face", "nose"),
}

# The head has the proportion of a six-year-old's, so that small pictures still show the face.
HEAD, NECK, TRUNK = 0.1, 0.055, 0.28
SHOULDER, HIP = 0.115, 0.075
UPPER_ARM, FOREARM, HAND = 0.15, 0.135, 0.03
THIGH, SHIN, FOOT = 0.22, 0.21, 0.09

# BGR
SKINS = ((199, 219, 247), (150, 190, 235), (115, 160, 212), (80, 120, 175), (55, 85, 130), (35, 55, 90))
HAIRS = ((25, 25, 30), (35, 50, 75), (50, 85, 130), (95, 165, 215), (150, 150, 155), (40, 60, 150))
INK, WHITE, LIPS = (30, 25, 30), (235, 235, 235), (70, 60, 150)

DIRECTIONS = arc(1.0, points=28)


@dataclass
class Part:
    """A body part: the hull of balls in one colour, with a lighter core that makes it look round.

    Attributes:
        name: ``left_thigh`` and the like.
        balls: (n, 4), centre and radius of each ball.
        colour: (3,), BGR.
        nearer: added to the depth of its balls when parts are sorted.
        details: painted on the part; balls and colour of each.
    """

    name: str
    balls: np.ndarray
    colour: np.ndarray
    nearer: float = 0.0
    details: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)

    @property
    def depth(self) -> float:
        return self.balls[:, 2].mean() + self.nearer

    def layers(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Outlines (points, 2) and colours in the order of painting; the first is the whole part."""
        core = self.balls.copy()
        # The light comes from above.
        core[:, 1] -= 0.2 * core[:, 3]
        core[:, 3] *= 0.7
        painted = [(self.balls, 0.74 * self.colour), (core, self.colour), *self.details]
        return [(hull(balls), colour) for balls, colour in painted]


def hull(balls: np.ndarray) -> np.ndarray:
    """The outline (points, 2) of the convex hull of balls (n, 4), seen along z."""
    reach = DIRECTIONS @ balls[:, :2].T + balls[:, 3]
    farthest = balls[reach.argmax(axis=1)]
    return farthest[:, :2] + farthest[:, 3:] * DIRECTIONS


@dataclass
class Figure:
    """A person; the origin is the middle of the hips.

    Attributes:
        parts: from back to front.
        joints: the position of each keypoint, by name.
    """

    parts: list[Part]
    joints: dict[str, np.ndarray]

    def shows(self, keypoint: str, part: str) -> bool:
        """Whether the keypoint is visible if the viewer sees ``part`` at its position."""
        side, _, joint = keypoint.rpartition("_")
        return not self.turned_away(keypoint) and part.removeprefix(f"{side}_") in JOINTS[joint]

    def turned_away(self, keypoint: str) -> bool:
        """Whether the keypoint is on a face that is turned away from the viewer."""
        if not keypoint.endswith(("eye", "nose")):
            return False
        head = 0.5 * (self.joints["left_ear"] + self.joints["right_ear"])
        return self.joints[keypoint][2] < head[2] + 0.2 * HEAD


class Body:
    """The axes of a body or a head, as directions in the viewer's space.

    Args:
        turn: angle by which it turns away from the viewer, to its own left.
        nod: angle by which it leans forward.
        tilt: angle by which it leans to its right.
    """

    def __init__(self, turn: float, nod: float = 0.0, tilt: float = 0.0) -> None:
        (ct, st), (cn, sn), (cl, sl) = ((math.cos(a), math.sin(a)) for a in (turn, nod, tilt))
        # For a person who faces the viewer, left, up and front are x, -y and z.
        axes = (cl, sl, 0.0), (-sl * cn, cl * cn, sn), (sl * sn, -cl * sn, cn)
        self.axes = np.array([(ct * x + st * z, -y, ct * z - st * x) for x, y, z in axes])

    def __call__(self, left: float = 0.0, up: float = 0.0, front: float = 0.0) -> np.ndarray:
        return left * self.axes[0] + up * self.axes[1] + front * self.axes[2]


def draw_figure(random: Callable) -> Figure:
    """Draw a person with random pose, view, build and clothes, from uniform numbers in [0, 1)."""
    turn = around(random, 0.8) + (math.pi if random() < 0.12 else 0.0)
    nod, tilt = between(random, -0.1, 0.25), around(random, 0.25)
    trunk, hips = Body(turn, nod, tilt), Body(turn, 0.0, 0.3 * tilt)
    head = Body(turn + around(random, 0.5), between(random, -0.2, 0.3), tilt + around(random, 0.3))
    build = between(random, 1.1, 1.5)
    skin, hair = (pick(random, colours) for colours in (SKINS, HAIRS))
    shirt, trousers, shoes = 30 + 215 * random(3), 20 + 200 * random(3), 20 + 120 * random(3)
    long_sleeves, shorts, long_hair = random() < 0.4, random() < 0.3, random() < 0.4

    parts: list[Part] = []
    joints: dict[str, np.ndarray] = {}

    def add(name: str, colour: np.ndarray, *balls: tuple[np.ndarray, float], nearer: float = 0.0) -> Part:
        parts.append(Part(name, _balls(*balls, scale=build), colour, nearer))
        return parts[-1]

    legs = _legs(random)
    for side, sign in SIDES.items():
        spread, swing, bend = legs[side]
        thigh, shin = (hips(*_hanging(sign * spread, angle)) for angle in (swing, swing - bend))
        hip = joints[f"{side}_hip"] = hips(sign * HIP)
        knee = joints[f"{side}_knee"] = hip + THIGH * thigh
        ankle = joints[f"{side}_ankle"] = knee + SHIN * shin
        heel = ankle + 0.03 * shin
        toes = heel + FOOT * hips(0.25 * sign, math.sin(swing - bend), math.cos(swing - bend))
        add(f"{side}_thigh", trousers, (hip, 0.062), (knee, 0.046), nearer=-0.02)
        add(f"{side}_shin", skin if shorts else trousers, (knee, 0.044), (ankle, 0.032))
        add(f"{side}_foot", shoes, (heel, 0.034), (toes, 0.026), nearer=0.005)

    for side, sign in SIDES.items():
        upper, fore = (trunk(*direction) for direction in _arm(random, sign))
        shoulder = joints[f"{side}_shoulder"] = trunk(sign * SHOULDER, TRUNK - 0.02)
        elbow = joints[f"{side}_elbow"] = shoulder + UPPER_ARM * upper
        wrist = joints[f"{side}_wrist"] = elbow + FOREARM * fore
        add(f"{side}_upper_arm", shirt, (shoulder, 0.042), (elbow, 0.035), nearer=0.015)
        add(f"{side}_forearm", shirt if long_sleeves else skin, (elbow, 0.033), (wrist, 0.025), nearer=0.02)
        add(f"{side}_hand", skin, (wrist, 0.025), (wrist + HAND * fore, 0.03), nearer=0.025)

    collar = trunk(up=TRUNK)
    skull = trunk(up=TRUNK + NECK) + head(up=0.95 * HEAD)
    add("neck", 0.9 * skin, (collar, 0.036), (skull - head(up=0.4 * HEAD), 0.034))
    shoulders = ((joints[f"{side}_shoulder"], 0.044) for side in SIDES)
    waist = ((joints[f"{side}_hip"] + trunk(up=0.015), 0.055) for side in SIDES)
    torso = add("torso", shirt, *shoulders, *waist)
    if trunk.axes[2, 2] > 0:
        opening = (collar + trunk(x, y, 0.06) for x, y in ((-0.03, -0.01), (0.03, -0.01), (0.0, -0.07)))
        torso.details.append((_balls(*((corner, 0.005) for corner in opening)), skin))
    parts += _head(skull, head, skin, hair, collar if long_hair else None, joints)
    return Figure(sorted(parts, key=lambda part: part.depth), joints)


def _head(skull, head: Body, skin, hair, collar, joints: dict[str, np.ndarray]) -> list[Part]:
    """The parts of a head around ``skull``; long hair reaches ``collar``, None means short hair."""

    def ball(left: float, up: float, front: float, radius: float) -> tuple[np.ndarray, float]:
        return skull + HEAD * head(left, up, front), HEAD * radius

    nose = ball(0.0, -0.12, 1.0, 0.16)
    joints["nose"] = nose[0]
    face = Part("face", _balls(ball(0.0, 0.2, 0.0, 0.92), ball(0.0, -0.4, 0.1, 0.66)), skin)
    ears = []
    for side, sign in SIDES.items():
        ear = ball(0.95 * sign, 0.0, -0.1, 0.2)
        joints[f"{side}_ear"], joints[f"{side}_eye"] = ear[0], ball(0.4 * sign, 0.18, 0.88, 0.0)[0]
        ears.append(Part(f"{side}_ear", _balls(ear), 0.92 * skin))
        if joints[f"{side}_eye"][2] > skull[2] + 0.2 * HEAD:
            for radius, colour in ((0.17, WHITE), (0.12, INK)):
                eye = ball(0.4 * sign, 0.18, 0.88, radius)
                face.details.append((_balls(eye), np.array(colour, float)))
    if head.axes[2, 2] > 0:
        mouth = (ball(x, -0.55, 0.85, 0.07) for x in (-0.25, 0.25))
        face.details.append((_balls(*mouth), np.array(LIPS, float)))
    fringe = (ball(x, 0.8, 0.4, 0.36) for x in (-0.4, 0.4))
    face.details.append((_balls(*fringe), 0.85 * hair))
    locks = [ball(0.0, 0.45, -0.3, 0.92)]
    if collar is not None:
        locks += [(collar + 0.5 * HEAD * head(sign, 0.0, -1.2), 0.5 * HEAD) for sign in SIDES.values()]
    return [
        face,
        *ears,
        Part("nose", _balls(nose), 0.9 * skin),
        Part("hair", _balls(*locks), hair, nearer=0.12 * HEAD),
    ]


def _balls(*balls: tuple[np.ndarray, float], scale: float = 1.0) -> np.ndarray:
    return np.array([(*centre, scale * radius) for centre, radius in balls])


def _hanging(spread: float, swing: float) -> tuple[float, float, float]:
    """Direction (left, up, front) of a hanging limb that is spread to the left and swung to the front."""
    along = math.cos(spread)
    return math.sin(spread), -along * math.cos(swing), along * math.sin(swing)


def _legs(random: Callable) -> dict[str, tuple[float, float, float]]:
    """The spread, the forward swing and the knee bend of each leg."""
    kind, stride = random(), between(random, -0.8, 0.8)
    legs = {}
    for side, sign in SIDES.items():
        spread = between(random, 0.0, 0.3)
        if kind < 0.6:  # standing
            swing, bend = around(random, 0.25), between(random, 0.0, 0.25)
        elif kind < 0.9:  # walking or running
            swing, bend = sign * stride + around(random, 0.2), between(random, 0.0, 1.0)
        else:  # sitting or squatting
            swing, bend = between(random, 0.9, 1.6), between(random, 1.0, 1.9)
        legs[side] = spread, swing, bend
    return legs


def _arm(random: Callable, sign: int) -> tuple[np.ndarray, np.ndarray]:
    """Directions (left, up, front) of an upper arm and its forearm."""
    raised = between(random, 0.1, 1.2) if random() < 0.85 else between(random, 1.2, 2.7)
    forward, bend, twist = (between(random, *r) for r in ((-0.3, 0.7), (0.05, 1.0), (-0.4, 0.8)))
    out, up, front = (
        math.sin(raised) * math.cos(forward),
        -math.cos(raised),
        math.sin(raised) * math.sin(forward),
    )
    upper = np.array([sign * out, up, front])
    # Elbows bend inwards, upwards and forwards.
    hinge = np.array([-0.5 * sign * math.cos(twist), math.sin(twist), 0.7])
    across = hinge - (hinge @ upper) * upper
    return upper, math.cos(bend) * upper + math.sin(bend) * across / math.sqrt(across @ across)


def between(random: Callable, low: float, high: float) -> float:
    """A random number between ``low`` and ``high``."""
    return low + (high - low) * random()


def around(random: Callable, spread: float) -> float:
    """A random number within ``spread`` of zero; small ones are more likely."""
    return spread * (random() + random() - 1)


def pick(random: Callable, colours: tuple[tuple[int, int, int], ...]) -> np.ndarray:
    """A random one of ``colours``."""
    return np.array(colours[int(random() * len(colours))], float)
