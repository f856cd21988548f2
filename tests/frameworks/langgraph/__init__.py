"""What plugs into langgraph."""
