"""The commands: each one parses, calls one function of a lower floor, and prints."""
