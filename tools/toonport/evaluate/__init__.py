"""How good cartoons are: distances between sets of pictures, likeness of each cartoon to its photo, best checkpoint."""
