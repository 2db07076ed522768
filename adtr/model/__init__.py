"""The networks of the paper and its losses."""
