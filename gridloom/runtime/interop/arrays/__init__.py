"""Array folders of TinyRecursiveModels' dataset builder: reader and byte-exact writer."""
