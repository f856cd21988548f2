"""What plugs into openai-agents."""
