"""A small CNN whose penultimate layer serves as features where ImageNet's do not fit (the demo's digits)."""

import torch
from torch import nn


class Classifier(nn.Module):
    """Images (B, C, S, S) in [-1, 1] to (features (B, 2 channels), logits (B, classes))."""

    def __init__(self, image_size: int, image_channels: int, channels: int, classes: int):
        super().__init__()
        layers, c, size = [], image_channels, image_size
        for width in (channels, 2 * channels, 2 * channels):
            layers += [nn.Conv2d(c, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            if size >= 8:  # keep at least 4x4 for the last convolution
                layers.append(nn.MaxPool2d(2))
                size //= 2
            c = width
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * c, c), nn.ReLU())
        self.head = nn.Linear(c, classes)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.body(x)
        return features, self.head(features)
