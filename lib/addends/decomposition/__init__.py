"""From model and sentences to exact sums: architectures, capture, the two methods, the indicators."""
