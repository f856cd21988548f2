"""What plugs into google-adk."""
