"""Rules of cells that are learnt from the demonstrations: tests of features decide each cell's colour."""
