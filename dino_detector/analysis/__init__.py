"""Tables and pictures that show how good a detector is."""
