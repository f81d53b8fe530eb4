"""Three clinics train a quantum classifier together."""
