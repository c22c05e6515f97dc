"""Rules that refuse a spec before it runs: models, data, fit, leaks, resources."""
