"""Files that are complete or absent, and folders of results."""
