"""How long help takes: each command's `--help` beside a typer program that has one option.

    python benchmarks/startup.py

CPU time of whole processes, the least of `--rounds`, the sides in turn. Typer and rich are most of
it on both sides; what lies above 1 is ours.
"""

import argparse
import resource
import subprocess
import sys

PEER = """
import typer
def main(name: str = "World") -> None:
    "Say hello."
typer.run(main)
"""
COMMANDS = ("", "train", "convert", "add-embodiment", "eval")


def seconds(*command: str) -> float:
    """CPU time of a process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *command, "--help"], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    peer, ours = [], {name: [] for name in COMMANDS}
    for _ in range(options.rounds):
        peer.append(seconds("-c", PEER))
        for name, spent in ours.items():
            spent.append(seconds("-m", "motus_cli.app", *name.split()))
    print(f"{'a typer program':28} {min(peer):.2f} s")
    for name, spent in ours.items():
        print(f"{f'motus {name} --help':28} {min(spent):.2f} s  {min(spent) / min(peer):.2f} x")


if __name__ == "__main__":
    main()
