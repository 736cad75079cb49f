"""Arrays without files: axes, tiles, normalisation, resampling, labels. numpy and scipy only."""
