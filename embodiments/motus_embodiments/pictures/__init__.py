"""Pictures of a robot: cameras, appearance, true flow, a portrait."""
