"""How a scene looks, apart from what moves in it: texture around the robot, light, colours."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Bool, Int, UInt8
from numpy import ndarray

from motus_embodiments.errors import UsageError
from motus_embodiments.physics import mujoco

PARTS = ("texture", "light", "colour")

_CLOTHS = 4  # textures laid in turn on what stands around the robot
_CLOTH, _SKY = "motus-cloth-", "motus-sky"
_SIDE = 256  # texels of a texture's side
_GREY = np.array([0.299, 0.587, 0.114])  # what red, green and blue count in a grey picture (BT.601)
_CONTRAST = 70.0  # of 255, the two colours of a texture are so far apart in a grey picture
_METRE = 1.5  # a texture repeats so often in a metre
_DROP = 0.03  # m, a laid floor is so far below the ground, so that it never shows through a table


@dataclass(frozen=True)
class Appearance:
    """Seeds that draw the looks of a scene anew for each trajectory; nothing in it moves.

    A part without a seed stays as the model has it.

    Attributes:
        texture: What lies on tables, floors and walls, and the sky; lays a floor where the model
            has none.
        light: Strength, tint and direction of the lights.
        colour: Colours of everything else.
    """

    texture: int | None = None
    light: int | None = None
    colour: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """`7` seeds all parts; `texture=7,light=3` the ones it names.

        Raises:
            UsageError: It is neither.
        """
        pairs = [pair.partition("=") for pair in text.split(",")]
        if len(pairs) == 1 and not pairs[0][1]:
            pairs = [(part, "=", pairs[0][0]) for part in PARTS]
        if any(part not in PARTS or not seed.strip().isdigit() for part, _, seed in pairs):
            raise UsageError(
                f"'{text}' says no appearance",
                hint=f"a number, or PART=NUMBER,... with the parts {', '.join(PARTS)}",
            )
        return cls(**{part: int(seed) for part, _, seed in pairs})

    def __str__(self) -> str:
        seeds = [(part, getattr(self, part)) for part in PARTS]
        return ",".join(f"{part}={seed}" for part, seed in seeds if seed is not None)


def furnish(spec: mujoco.MjSpec, appearance: Appearance, ground: float) -> None:
    """Put the textures into a model that is not compiled yet, and a floor if it has none.

    Args:
        spec: The model.
        appearance: Nothing is done without a seed for the texture.
        ground: Height that the robot stands at, in m.
    """
    if appearance.texture is None:
        return
    flat = mujoco.mjtTexture.mjTEXTURE_2D
    for index in range(_CLOTHS):
        name = f"{_CLOTH}{index}"
        texture = spec.add_texture(name=name, type=flat, width=_SIDE, height=_SIDE, nchannel=3)
        texture.data = _cloth(np.random.default_rng([appearance.texture, index])).tobytes()
        material = spec.add_material(name=name, texuniform=True, texrepeat=[_METRE, _METRE])
        material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name
    # Beyond the floor a picture would be of one colour, in which flow finds no hold.
    skies = mujoco.mjtTexture.mjTEXTURE_SKYBOX
    for texture in [one for one in spec.textures if one.type == skies]:
        spec.delete(texture)
    sky = spec.add_texture(name=_SKY, type=skies, width=_SIDE, height=6 * _SIDE, nchannel=3)
    sky.data = _cloth(np.random.default_rng([appearance.texture, _CLOTHS])).tobytes() * 6
    if not spec.lights:
        spec.worldbody.add_light(
            name="motus-light", type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, dir=[0.1, 0.1, -1]
        )
    if not any(g.type == mujoco.mjtGeom.mjGEOM_PLANE for g in spec.worldbody.geoms):
        spec.worldbody.add_geom(
            name="motus-floor",
            type=mujoco.mjtGeom.mjGEOM_PLANE,
            size=[0, 0, 1],
            pos=[0, 0, ground - _DROP],
            contype=0,
            conaffinity=0,
        )


class Dresser:
    """Changes the looks of a compiled model, in place, from one trajectory to the next."""

    def __init__(self, model: mujoco.MjModel, appearance: Appearance) -> None:
        self._model, self._appearance = model, appearance
        self._around = np.flatnonzero(_surroundings(model))
        self._cloths = [
            mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_MATERIAL, f"{_CLOTH}{index}")
            for index in range(_CLOTHS)
        ]
        if appearance.texture is not None:
            _face_up(model, self._around)
        head = model.vis.headlight
        self._usual = {
            "mat_rgba": model.mat_rgba.copy(),
            "geom_rgba": model.geom_rgba.copy(),
            "light_diffuse": model.light_diffuse.copy(),
            "light_dir": model.light_dir.copy(),
        }
        self._head = (head.ambient.copy(), head.diffuse.copy())

    def dress(self, index: int) -> None:
        """Draw the looks of trajectory `index`; the same whatever was drawn before."""
        if self._appearance.texture is not None:
            self._lay(np.random.default_rng([self._appearance.texture, 0, index]))
        if self._appearance.colour is not None:
            self._paint(np.random.default_rng([self._appearance.colour, 1, index]))
        if self._appearance.light is not None:
            self._light(np.random.default_rng([self._appearance.light, 2, index]))

    def _lay(self, rng: np.random.Generator) -> None:
        model = self._model
        model.geom_matid[self._around] = rng.choice(self._cloths, len(self._around))
        model.geom_rgba[self._around] = (*rng.uniform(0.7, 1.0, 3), 1.0)
        model.mat_texrepeat[self._cloths] = _METRE * rng.uniform(0.7, 1.4)

    def _paint(self, rng: np.random.Generator) -> None:
        model = self._model
        others = np.setdiff1d(np.arange(model.nmat), self._cloths)
        kept = np.setdiff1d(np.arange(model.ngeom), self._around)
        for name, rows in (("mat_rgba", others), ("geom_rgba", kept)):
            usual = self._usual[name][rows, :3]
            gains = rng.uniform(0.5, 1.4, (len(rows), 3))
            getattr(model, name)[rows, :3] = np.clip(usual * gains + 0.05, 0, 1)

    def _light(self, rng: np.random.Generator) -> None:
        model, head = self._model, self._model.vis.headlight
        tint = rng.uniform(0.8, 1.1, 3)
        model.light_diffuse[:] = self._usual["light_diffuse"] * tint * rng.uniform(0.5, 1.3)
        turned = self._usual["light_dir"] + rng.normal(0, 0.4, model.light_dir.shape)
        model.light_dir[:] = turned / np.linalg.norm(turned, axis=1, keepdims=True)
        ambient, diffuse = self._head
        head.ambient[:] = np.clip(ambient * rng.uniform(0.6, 1.5), 0, 1)
        head.diffuse[:] = np.clip(diffuse * rng.uniform(0.6, 1.3), 0, 1)


def _surroundings(model: mujoco.MjModel) -> Bool[ndarray, " g"]:
    """Geoms of bodies that never move and carry nothing that does; the world is one of them."""
    moves = model.body_weldid != 0
    carries = moves.copy()
    for body in range(model.nbody - 1, 0, -1):
        carries[model.body_parentid[body]] |= carries[body]
    carries[0] = False
    around: Bool[ndarray, " g"] = ~carries[model.geom_bodyid]
    return around


def _face_up(model: mujoco.MjModel, geoms: Int[ndarray, " g"]) -> None:
    """Turn the frames of flat meshes, such as table tops, so that they are thin along z.

    A texture is laid along x and y; along the thin side it would be drawn out to streaks.
    """
    owners = model.geom_dataid
    for geom in geoms[model.geom_type[geoms] == mujoco.mjtGeom.mjGEOM_MESH]:
        mesh = int(owners[geom])
        at, count = int(model.mesh_vertadr[mesh]), int(model.mesh_vertnum[mesh])
        thin = int(np.argmin(np.ptp(model.mesh_vert[at : at + count], axis=0)))
        if thin == 2 or (owners == mesh).sum() > 1:
            continue
        order = [(thin + 1) % 3, (thin + 2) % 3, thin]
        start, normals = int(model.mesh_normaladr[mesh]), int(model.mesh_normalnum[mesh])
        for array, rows in (
            (model.mesh_vert, slice(at, at + count)),
            (model.mesh_normal, slice(start, start + normals)),
        ):
            array[rows] = array[rows][:, order]
        turn, whole = np.zeros(4), np.zeros(4)
        mujoco.mju_mat2Quat(turn, np.eye(3)[:, order].ravel())
        mujoco.mju_mulQuat(whole, model.geom_quat[geom], turn)
        model.geom_quat[geom] = whole


def _cloth(rng: np.random.Generator) -> UInt8[ndarray, "s s 3"]:
    """A texture of blots of many sizes in two colours, so that flow finds hold everywhere."""
    grey = np.zeros((_SIDE, _SIDE))
    for cells in (8, 16, 32, 64, 128):
        # Linear from cell to cell; the last one meets the first, as the texture repeats.
        at, share = np.divmod(np.arange(_SIDE) * cells / _SIDE, 1)
        blend = np.zeros((_SIDE, cells))
        blend[np.arange(_SIDE), at.astype(int)] = 1 - share
        blend[np.arange(_SIDE), (at.astype(int) + 1) % cells] += share
        grey += blend @ rng.normal(size=(cells, cells)) @ blend.T
    share = 1 / (1 + np.exp(-grey[..., None]))
    dark: ndarray = np.zeros(3)
    bright = dark
    while (bright - dark) @ _GREY < _CONTRAST:
        dark, bright = rng.uniform(20, 130, 3), rng.uniform(110, 240, 3)
    return (dark + (bright - dark) * share).astype(np.uint8)
