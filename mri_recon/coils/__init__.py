"""What receive coils do to signal and noise."""
