"""Study of halting: accuracy against steps, gain over fixed steps, steps against difficulty, calibration."""
