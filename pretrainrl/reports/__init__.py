"""Every page and picture that the package writes."""
