"""The recipe for smolagents."""
