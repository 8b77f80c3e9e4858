"""Pages that people open: one self-contained HTML file each, with its style, script, charts and photos inside."""
