"""From tidy frames to pictures: one style, plots that take an axes and return it, provenance."""
