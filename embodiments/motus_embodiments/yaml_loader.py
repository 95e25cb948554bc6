"""The parser of cards and recipes."""

import yaml

# Ten times as fast as PyYAML's own, where libyaml came with it.
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
