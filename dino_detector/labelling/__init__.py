"""Label less: pictures to label next, labels that are probably wrong, and pre-labels."""
