"""Time, memory and size of parts of the toolkit."""
