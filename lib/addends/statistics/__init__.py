"""From tables to claims: correlations over checkpoints, mixed models over runs and sentences."""
