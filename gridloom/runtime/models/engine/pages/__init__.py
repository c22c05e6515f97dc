"""Drawing: glyphs, pages of text, and token rows as patches of images."""
