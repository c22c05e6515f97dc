"""Files of the stores: locks, writing aside and renaming, folders that appear whole, disk errors."""
