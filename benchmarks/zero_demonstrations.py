r"""How far a policy of latent actions gets on a robot of which it has seen no demonstration.

    motus export --run runs/latent --target CARD --anchoring ANCHORING --out policies/zero
    motus export --run runs/latent --target CARD --anchoring ANCHORING --out policies/c --untrained
    python benchmarks/zero_demonstrations.py policies/zero policies/c --demonstrations DATASET \
        --env robosuite:Lift-Panda --image-size 96 --horizon 80

The control has the same decoder behind initial weights: what differs comes from the run.

Without driving, at frames of demonstrations that no policy has seen: `explained` is the share of
the demonstrator's motion (change of every joint or pose number over a chunk, from the state) that
is the policy's as well, 1 - sum |policy - demonstrator|^2 / sum |demonstrator|^2, so that
standing still has 0; `towards` is the mean cosine between the two.

Driving: success, and episodes that reached each of the task's sub-goals. `random` draws commands
within the card's limits.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from motus_adapters import Policy, UnifiedDataset, open_simulator
from motus_recipes import wilson
from motus_recipes.evaluation.closed_loop import FIRST_SEED
from motus_recipes.evaluation.driving import Driver, PolicyDriver, RandomDriver, run_episode
from motus_recipes.evaluation.sheet import sheet_for

EVERY = 4  # frames of a demonstration from one that is looked at to the next


def explain(policy: Policy, dataset: UnifiedDataset, episodes: int) -> tuple[float, float]:
    """`explained` and `towards` over the first demonstrations."""
    wanted, found = [], []
    kinds = [channel.kind for channel in policy.card.action_channels]
    columns = [i for i, kind in enumerate(kinds) if kind != "gripper"]
    for episode in range(min(episodes, len(dataset.episodes))):
        arrays, task = dataset.arrays(episode), dataset.episodes[episode].task
        frames = list(dataset.frames(episode))
        for at in range(0, len(frames) - policy.rows, EVERY):
            state = arrays["state"][at].astype(np.float64)
            ahead = arrays["action"][at : at + policy.rows]
            canvas = policy.guard.fit(frames[at])
            chunk = policy.solve(canvas[None], state[None], [task], [at])[0]
            here = policy.space.adapter.command(state[None])[:, columns]
            wanted.append((ahead[:, columns] - here).ravel())
            found.append((chunk[:, columns] - here).ravel())
    truth, told = np.stack(wanted), np.stack(found)
    explained = 1 - np.square(told - truth).sum() / np.square(truth).sum()
    lengths = np.linalg.norm(truth, axis=1) * np.linalg.norm(told, axis=1)
    towards = np.mean((truth * told).sum(1) / np.maximum(lengths, 1e-12))
    return float(explained), float(towards)


def drive(driver: Driver, options: argparse.Namespace) -> str:
    """A row's closed-loop part."""
    simulator, sheet = open_simulator(options.env, options.image_size), sheet_for(options.env)
    simulator.max_steps = min(simulator.max_steps, options.horizon or simulator.max_steps)
    seeds = range(FIRST_SEED, FIRST_SEED + options.episodes)
    try:
        rows = [run_episode(simulator, driver, seed, sheet)[0] for seed in seeds]
    finally:
        simulator.close()
    solved = sum(row.success for row in rows)
    low, high = wilson(solved, len(rows))
    reached = Counter(goal for row in rows for goal in row.reached)
    goals = ", ".join(f"{goal} {reached[goal]}" for goal in (sheet.subgoals if sheet else ()))
    return f"{solved:3d}/{len(rows)} ({low:.2f}-{high:.2f})  {goals}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("policies", type=Path, nargs="+")
    parser.add_argument("--demonstrations", type=Path, required=True)
    parser.add_argument("--env", required=True)
    parser.add_argument("--episodes", type=int, default=25)
    parser.add_argument("--image-size", type=int, default=128, help="pixels")
    parser.add_argument("--horizon", type=int, help="steps of an episode; the simulator's own")
    options = parser.parse_args()
    torch.set_num_threads(1)
    dataset = UnifiedDataset(options.demonstrations)
    print(f"{'policy':24} explained towards  solved")
    card = ""
    for folder in options.policies:
        policy = Policy.load(folder)
        card = policy.card.name
        explained, towards = explain(policy, dataset, options.episodes)
        driven = drive(PolicyDriver(policy), options)
        print(f"{folder.name:24} {explained:9.3f} {towards:7.2f}  {driven}", flush=True)
    print(f"{'random':24} {'-':>9} {'-':>7}  {drive(RandomDriver(card), options)}")


if __name__ == "__main__":
    main()
