"""Search of programs of image functions that explain the demonstrations of a task."""
