"""Which versions of its packages a simulator ran with."""

from importlib.metadata import version


def versions_of(*packages: str) -> dict[str, str]:
    """Installed distribution to its version."""
    return {package: version(package) for package in packages}
