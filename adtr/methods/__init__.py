"""Methods of anomaly detection, a module each."""
