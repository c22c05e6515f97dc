"""Array folders of TinyRecursiveModels' dataset builder, read and written byte for byte."""
