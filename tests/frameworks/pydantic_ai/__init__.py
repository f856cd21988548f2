"""What plugs into pydantic-ai."""
