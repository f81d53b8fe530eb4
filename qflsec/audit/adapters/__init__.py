"""From what users write to parts, one file for each kind of object."""
