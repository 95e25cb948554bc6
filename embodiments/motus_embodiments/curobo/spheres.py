"""Spheres that fill a robot's collision geometry, as planners on a GPU want it."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from motus_embodiments.physics import mujoco

PAD = 0.004  # m by which a sphere may stand out of its shape
SLACK = 0.004  # m outside a sphere that still count as held by it
_FILL = 0.98  # share of a shape's inside that its spheres are to hold
_MOST = 48  # spheres for one shape
_GRID = (12, 0.004)  # points along the longest side, and the finest step in m
_FACETS = 24  # planes that stand for the round side of a cylinder or an ellipsoid


@dataclass(frozen=True)
class Spheres:
    """Spheres of one body, in its frame.

    Attributes:
        centers: Where they are, in m.
        radii: How large, in m.
        filled: Share of the body's inside that they hold, to within `SLACK`.
    """

    centers: Float[ndarray, "s 3"]
    radii: Float[ndarray, " s"]
    filled: float


class _Shape(NamedTuple):
    """The points x with normals @ x <= offsets, and a box around them."""

    normals: Float[ndarray, "p 3"]
    offsets: Float[ndarray, " p"]
    low: Float[ndarray, " 3"]
    high: Float[ndarray, " 3"]


class _Filling(NamedTuple):
    """Spheres of one shape, in its frame, the share of it that they hold, and its volume."""

    centers: Float[ndarray, "s 3"]
    radii: Float[ndarray, " s"]
    filled: float
    volume: float


def fit_spheres(model: mujoco.MjModel, body: int) -> Spheres | None:
    """Fill the collision shapes of a body, which are convex; None if it has none.

    Every point inside a convex shape is the centre of a sphere as large as its distance from the
    nearest side. Of those the one that holds most of what is still empty is taken, until little
    is left (a greedy cover).
    """
    fillings, centers = list[_Filling](), []
    for geom in np.flatnonzero(model.geom_bodyid == body):
        solid = model.geom_contype[geom] or model.geom_conaffinity[geom]
        shape = _shape(model, int(geom)) if solid else None
        if shape is None:
            continue
        axes = np.zeros(9)
        mujoco.mju_quat2Mat(axes, model.geom_quat[geom])
        fillings.append(_fill(shape))
        centers.append(fillings[-1].centers @ axes.reshape(3, 3).T + model.geom_pos[geom])
    if not fillings:
        return None
    filled = sum(f.filled * f.volume for f in fillings) / sum(f.volume for f in fillings)
    radii = np.concatenate([filling.radii for filling in fillings])
    return Spheres(np.concatenate(centers), radii, filled)


def _fill(shape: _Shape) -> _Filling:
    step = max(float((shape.high - shape.low).max()) / _GRID[0], _GRID[1])
    sides = shape.high - shape.low
    counts = 2 * np.maximum(1, np.rint(sides / step / 2).astype(int)) + 1
    # Centres of cells, an odd number along each side, so that the middle is one.
    axes = [
        low + side * (np.arange(n) + 0.5) / n
        for low, side, n in zip(shape.low, sides, counts, strict=True)
    ]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    depth = (shape.offsets - points @ shape.normals.T).min(axis=1)
    points, depth = points[depth >= 0], depth[depth >= 0]
    radii = depth + PAD
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    holds: Bool[ndarray, "i i"] = apart <= radii[:, None] + SLACK
    empty, chosen = np.ones(len(points), bool), list[int]()
    while empty.mean() > 1 - _FILL and len(chosen) < _MOST:
        best = int((holds & empty).sum(axis=1).argmax())
        chosen.append(best)
        empty &= ~holds[best]
    volume = float(np.prod(sides / counts)) * len(points)
    return _Filling(points[chosen], radii[chosen], 1 - float(empty.mean()), volume)


def _shape(model: mujoco.MjModel, geom: int) -> _Shape | None:
    """The shape of a geom; None for a plane or a height field."""
    kind, size = model.geom_type[geom], model.geom_size[geom]
    types = mujoco.mjtGeom
    if kind == types.mjGEOM_MESH:
        return _hull(model, int(model.geom_dataid[geom]))
    if kind == types.mjGEOM_BOX:
        return _polytope(np.concatenate([np.eye(3), -np.eye(3)]), np.tile(size, 2), size)
    directions = _directions()
    if kind == types.mjGEOM_SPHERE:
        return _polytope(directions, np.full(len(directions), size[0]), np.full(3, size[0]))
    if kind == types.mjGEOM_ELLIPSOID:
        return _polytope(directions, np.linalg.norm(directions * size, axis=1), size)
    bounds = np.array([size[0], size[0], size[1]])
    if kind == types.mjGEOM_CAPSULE:
        reach = size[0] + np.abs(directions[:, 2]) * size[1]
        return _polytope(directions, reach, bounds + np.array([0, 0, size[0]]))
    if kind == types.mjGEOM_CYLINDER:
        angles = np.arange(_FACETS) * 2 * np.pi / _FACETS
        side = np.stack([np.cos(angles), np.sin(angles), np.zeros(_FACETS)], axis=1)
        normals = np.concatenate([side, [[0, 0, 1], [0, 0, -1]]])
        return _polytope(normals, np.append(np.full(_FACETS, size[0]), [size[1]] * 2), bounds)
    return None


def _polytope(
    normals: Float[ndarray, "p 3"], offsets: Float[ndarray, " p"], bounds: Float[ndarray, " 3"]
) -> _Shape:
    return _Shape(normals, offsets, -bounds, bounds)


def _directions() -> Float[ndarray, "d 3"]:
    """Directions spread evenly over the sphere (a Fibonacci lattice)."""
    n = _FACETS**2 // 3
    z = 1 - (2 * np.arange(n) + 1) / n
    turn = np.arange(n) * np.pi * (3 - np.sqrt(5))
    ring = np.sqrt(1 - z**2)
    return np.stack([ring * np.cos(turn), ring * np.sin(turn), z], axis=1)


def _hull(model: mujoco.MjModel, mesh: int) -> _Shape | None:
    """The convex hull that MuJoCo collides a mesh by; None where it made none."""
    at = int(model.mesh_graphadr[mesh])
    if at < 0:
        return None
    start = int(model.mesh_vertadr[mesh])
    vertices = model.mesh_vert[start : start + model.mesh_vertnum[mesh]].astype(np.float64)
    corners = vertices[_hull_faces(model.mesh_graph[at:])]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(normals, axis=1)
    corners, normals = corners[length > 0], normals[length > 0] / length[length > 0, None]
    offsets = (normals * corners[:, 0]).sum(axis=1)
    inward = normals @ vertices.mean(axis=0) > offsets
    normals[inward], offsets[inward] = -normals[inward], -offsets[inward]
    used = corners.reshape(-1, 3)
    return _Shape(normals, offsets, used.min(axis=0), used.max(axis=0))


def _hull_faces(graph: Int[ndarray, " k"]) -> Int[ndarray, "f 3"]:
    """Vertices of the faces in MuJoCo's description of a hull.

    It holds the numbers of vertices v and faces f, then v + v + (v + 3f) numbers on the edges,
    then three vertices of the mesh for each face (mjModel.mesh_graph).
    """
    v, f = int(graph[0]), int(graph[1])
    start = 2 + 3 * v + 3 * f
    faces: Int[ndarray, "f 3"] = graph[start : start + 3 * f].reshape(f, 3)
    return faces
