"""What is on disk: find images and their masks, check them, split them, and make synthetic ones. Torch stays out."""
