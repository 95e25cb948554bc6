"""The same on a GPU, with cuRobo: its files, its robot, its sampler."""
