"""Patterns that come from other patterns: parts, joins, unions and intersections, and where their values come from."""
