"""From an image and networks to class probabilities on the image's own grid."""
