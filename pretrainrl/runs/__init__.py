"""What every long run shares: its folder and settings, locks, checkpoints, interruption, and a pool of processes."""
