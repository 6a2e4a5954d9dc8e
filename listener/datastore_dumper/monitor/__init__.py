"""What the daemon tells those who watch it: metrics, health, heartbeats. Nothing that it does depends on any of this."""
