"""One file for each foreign format in which Atari play is kept."""
