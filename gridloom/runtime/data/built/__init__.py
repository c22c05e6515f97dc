"""Built datasets: samples of sources, encoders, and stores that are verified, resumed and consolidated."""
