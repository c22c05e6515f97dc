"""Long checks of robustness: kills, mutated specs, hostile files, big ledgers. `make campaign MINUTES=60` runs them."""
