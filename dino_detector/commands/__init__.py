"""The commands of the toolkit: one module a command, and the frame around every command."""
