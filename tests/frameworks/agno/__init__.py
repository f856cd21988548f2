"""The recipe for agno."""
