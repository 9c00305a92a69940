"""What every long run shares: its folder and lock, interruption, and a pool of processes."""
