"""Whether labelling less works: spoiled labels that are found, and labels that are saved."""
