"""addends."""
