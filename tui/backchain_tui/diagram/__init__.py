"""The picture of the backing chains: layout on a character grid, glyphs, painting, and the widget that shows it."""
