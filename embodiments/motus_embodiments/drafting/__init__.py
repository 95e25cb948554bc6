"""A card for a new robot: from its model or its dataset, checked and registered."""
