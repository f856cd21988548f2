"""The recipe for strands."""
