"""Two short runs of stage 3, as it is and compiled: `python compiled.py DATASET FOLDER`.

Compiled into graphs with their backward pass; machine code would take minutes of a C++ compiler.
In a process of its own, since shapes are not checked at run time here.
"""

import sys
from functools import partialmethod
from pathlib import Path

import torch
from torch._dynamo.utils import counters

from motus_recipes import load_recipe, train

FEW = ("engine.trackers=[]", "stages.stage3.steps=2", "stages.stage3.batch=2")

if __name__ == "__main__":
    data, folder = map(Path, sys.argv[1:])
    torch.set_num_threads(1)
    torch.nn.Module.compile = partialmethod(torch.nn.Module.compile, backend="aot_eager")
    for compiled in (False, True):
        recipe = load_recipe("stage3", overrides=[f"engine.compile={compiled}", *FEW])
        train(recipe, run=folder / str(compiled), data={"target": data}, device="cpu")
        (folder / str(compiled) / "graphs").write_text(str(counters["stats"]["unique_graphs"]))
