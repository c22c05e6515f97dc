"""`gridloom doctor`: what this machine has and how fast its devices are."""
