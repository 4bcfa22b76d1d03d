"""Every concrete component of the zoo; each folder could move to a package of its own."""
