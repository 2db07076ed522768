"""From anomaly maps to scores, metrics and intervals."""
