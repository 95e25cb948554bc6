"""A robot as spheres: what a planner on a GPU takes for it, and how far that is from its model."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from motus_embodiments.curobo.spheres import Spheres, fit_spheres
from motus_embodiments.kinematics import Kinematics
from motus_embodiments.physics import mujoco
from motus_embodiments.poses.collisions import Collisions

_SEEN = 0.01  # share of poses in which spheres of two links overlap before the pair is looked at
_BUILT_IN = 0.99  # share of poses in which a sphere is inside an obstacle because it is built so
_FLOOR = (4.0, 4.0, 0.2)  # m, the box that stands for a plane


@dataclass(frozen=True)
class Obstacle:
    """A box in the world.

    Attributes:
        name: Unique.
        dims: Lengths of its sides in m.
        position: Its centre in m.
        quaternion: Its orientation, w x y z.
    """

    name: str
    dims: tuple[float, float, float]
    position: tuple[float, float, float]
    quaternion: tuple[float, float, float, float]


class SphereModel:
    """The spheres of the robot's bodies, the boxes around it, and which touches count.

    Attributes:
        spheres: Body of the model -> its spheres.
        obstacles: Boxes around everything solid that is not the robot.
        ignored: Pairs of bodies whose spheres may overlap.
    """

    def __init__(
        self, kinematics: Kinematics, collisions: Collisions, samples: Float[ndarray, "s n"]
    ) -> None:
        """Fit and adjust.

        Spheres that are inside an obstacle in every sample are left out (a base on its table),
        and pairs of links are ignored that never touch in the model though their spheres do.

        Args:
            kinematics: Of the card.
            collisions: Of the same kinematics.
            samples: Random canonical states.
        """
        model = kinematics.model
        assert model is not None
        assert kinematics.data is not None
        self._model, self._data = model, kinematics.data
        self._collisions = collisions
        self.robot = collisions.robot_bodies()
        fitted = {body: fit_spheres(model, body) for body in sorted(self.robot)}
        self._lay_out({body: spheres for body, spheres in fitted.items() if spheres})
        self._place(kinematics.qpos(np.array([kinematics.card.home()]))[0])
        self.obstacles = tuple(self._boxes())
        qpos = kinematics.qpos(samples)
        self._leave_out_built_in(qpos)
        self.ignored = self._find_ignored(qpos)
        self._counts = ~self._as_matrix(self.ignored)

    def collides(self, qpos: Float[ndarray, " nq"], margin: float = 0.0) -> bool:
        """Whether spheres overlap, or come nearer than `margin` (m), at MuJoCo positions."""
        centers = self._place(qpos)
        if bool((self._touch(centers, margin) & self._counts).any()):
            return True
        return bool((self._inside(centers) > -margin).any())

    def _lay_out(self, spheres: dict[int, Spheres]) -> None:
        self.spheres = spheres
        self._centers = np.concatenate([s.centers for s in spheres.values()])
        self._radii = np.concatenate([s.radii for s in spheres.values()])
        self._reach = (self._radii[:, None] + self._radii) ** 2
        self._body = np.repeat(list(spheres), [len(s.radii) for s in spheres.values()])

    def _place(self, qpos: Float[ndarray, " nq"]) -> Float[ndarray, "s 3"]:
        """Centres in the world."""
        self._data.qpos[:] = qpos
        mujoco.mj_kinematics(self._model, self._data)
        axes = self._data.xmat[self._body].reshape(-1, 3, 3)
        turned = np.einsum("sij,sj->si", axes, self._centers)
        return turned + self._data.xpos[self._body]

    def _touch(self, centers: Float[ndarray, "s 3"], margin: float = 0.0) -> Bool[ndarray, "s s"]:
        """Which two spheres overlap, or come nearer than `margin`."""
        squares = (centers**2).sum(axis=1)
        apart = centers @ centers.T
        apart *= -2
        apart += squares[:, None]
        apart += squares
        return apart < (self._reach if margin == 0 else (np.sqrt(self._reach) + margin) ** 2)

    def _inside(self, centers: Float[ndarray, "s 3"]) -> Float[ndarray, "o s"]:
        """How deep each sphere is in each obstacle, negative for a gap."""
        found = []
        for box in self.obstacles:
            axes = np.zeros(9)
            mujoco.mju_quat2Mat(axes, np.array(box.quaternion))
            local = np.abs((centers - box.position) @ axes.reshape(3, 3)) - np.array(box.dims) / 2
            outside = np.linalg.norm(np.maximum(local, 0), axis=1)
            found.append(self._radii - outside - np.minimum(local.max(axis=1), 0))
        return np.array(found).reshape(len(self.obstacles), len(centers))

    def _leave_out_built_in(self, qpos: Float[ndarray, "s nq"]) -> None:
        inside = np.zeros(len(self._radii))
        for row in qpos:
            inside += (self._inside(self._place(row)) > 0).any(axis=0)
        kept = inside < _BUILT_IN * len(qpos)
        trimmed = {}
        for body, spheres in self.spheres.items():
            mine = kept[self._body == body]
            if mine.any():
                trimmed[body] = Spheres(spheres.centers[mine], spheres.radii[mine], spheres.filled)
        self._lay_out(trimmed)

    def _find_ignored(self, qpos: Float[ndarray, "s nq"]) -> frozenset[tuple[int, int]]:
        bodies = list(self.spheres)
        index = {body: i for i, body in enumerate(bodies)}
        overlapped, touched = np.zeros((2, len(bodies), len(bodies)), int)
        geom_body = self._model.geom_bodyid
        start = np.cumsum([0, *(len(s.radii) for s in self.spheres.values())])[:-1]
        for row in qpos:
            pairs = {tuple(sorted(pair)) for pair in geom_body[self._collisions.touching(row)]}
            for a, b in pairs:
                if a in index and b in index:
                    touched[index[a], index[b]] += 1
            over = self._touch(self._place(row))
            over = np.logical_or.reduceat(
                np.logical_or.reduceat(over, start, axis=0), start, axis=1
            )
            overlapped += over
        fat = (touched == 0) & (overlapped > _SEEN * len(qpos))
        return frozenset(
            (bodies[a], bodies[b])
            for a in range(len(bodies))
            for b in range(a + 1, len(bodies))
            if fat[a, b] or not self._collisions.may_collide(bodies[a], bodies[b])
        )

    def _as_matrix(self, ignored: frozenset[tuple[int, int]]) -> Bool[ndarray, "s s"]:
        """Pairs of spheres that do not count: of one body, or of bodies to be ignored."""
        matrix: Bool[ndarray, "s s"] = self._body[:, None] == self._body[None]
        for a, b in ignored:
            matrix |= (self._body[:, None] == a) & (self._body[None] == b)
        return matrix | matrix.T

    def _boxes(self) -> list[Obstacle]:
        model, data = self._model, self._data
        boxes = []
        for geom in self._solid():
            if int(model.geom_bodyid[geom]) in self.robot:
                continue
            quaternion = np.zeros(4)
            mujoco.mju_mat2Quat(quaternion, data.geom_xmat[geom])
            axes, center = data.geom_xmat[geom].reshape(3, 3), model.geom_aabb[geom, :3]
            dims = tuple(2 * model.geom_aabb[geom, 3:])
            if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_PLANE:
                center, dims = np.array([0, 0, -_FLOOR[2] / 2]), _FLOOR
            boxes.append(
                Obstacle(
                    name=f"geom{geom}",
                    dims=_three(dims),
                    position=_three(data.geom_xpos[geom] + axes @ center),
                    quaternion=tuple(float(q) for q in quaternion),  # type: ignore[arg-type]
                )
            )
        if self._collisions.table is not None:
            height = self._collisions.table - _FLOOR[2] / 2
            boxes.append(Obstacle("table", _FLOOR, (0.0, 0.0, height), (1.0, 0.0, 0.0, 0.0)))
        return boxes

    def _solid(self) -> Int[ndarray, " g"]:
        return np.flatnonzero(self._model.geom_contype | self._model.geom_conaffinity)


def _three(values: object) -> tuple[float, float, float]:
    x, y, z = np.asarray(values, np.float64).tolist()
    return x, y, z
