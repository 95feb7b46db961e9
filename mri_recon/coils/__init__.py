"""Model the receive coils: sensitivities, phase, noise, combination and compression."""
