"""What plugs into pydantic-ai-harness."""
