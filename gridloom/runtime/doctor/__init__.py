"""Implementation of `gridloom doctor`: checks of this machine, and measurement of its devices' speeds."""
