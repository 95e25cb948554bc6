"""Random, collision-free motion on a CPU: poses, paths, and how evenly they cover the workspace."""
