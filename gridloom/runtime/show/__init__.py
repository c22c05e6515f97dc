"""Views of data for people: grids as text, SVG and PNG; rows, entries, statistics."""
