"""A module for each command of the toolkit, and the frame around every command."""
