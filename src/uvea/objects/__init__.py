"""Objects: targets for training, decoding of the network's maps, tables and outlines. Arrays only, no torch."""
