"""The image pool: a history of fakes that the discriminators are shown now and then instead of fresh ones.

Paper: learning from simulated and unsupervised images (arXiv 1612.07828), as CycleGAN (arXiv 1703.10593) uses it.
"""

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.floating]


class ImagePool:
    """Keeps up to `size` images as numpy arrays; once full, half of the queries swap in an older one.

    Attributes:
        size: images to keep; 0 passes every batch through.
        random: source of the draws, shared with the training step: one uniform number per image of a full pool,
            then, above 0.5, the index of the image to swap.
        images: what is stored, each [C, H, W], oldest place first.
    """

    def __init__(self, size: int, random: np.random.Generator) -> None:
        self.size, self.random = size, random
        self.images: list[Images] = []

    def query(self, images: Images) -> Images:
        """Store a batch [N, C, H, W] image by image and return a batch of the same shape to train on."""
        if self.size == 0:
            return images
        return np.stack([self._exchange(image) for image in images])

    def _exchange(self, image: Images) -> Images:
        if len(self.images) < self.size:
            self.images.append(image.copy())
            return image
        if self.random.uniform() <= 0.5:
            return image
        place = int(self.random.integers(self.size))
        old, self.images[place] = self.images[place], image.copy()
        return old
