"""WS-DAN in float64, pixel by pixel and feature by feature; only for tests."""

from __future__ import annotations

import math

import torch


def pool(features, attention):
    """The feature matrix ``(M, C)`` of one image: part k's feature c is the mean of A_k F_c."""
    (channels, height, width), parts = features.shape, attention.shape[0]
    matrix = []
    for k in range(parts):
        for c in range(channels):
            total = sum(
                attention[k, i, j] * features[c, i, j] for i in range(height) for j in range(width)
            ) / (height * width)
            matrix.append(total.abs().sqrt() * (1 if total > 0 else -1))
    norm = sum(value**2 for value in matrix) ** 0.5
    return torch.stack([value / norm for value in matrix]).reshape(parts, channels)


def at(map_, y, x):
    """A map's value between its cells' centres, which are at 0, 1, 2, ...; constant beyond the outer ones."""
    height, width = len(map_), len(map_[0])
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    top, left = math.floor(y), math.floor(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    v, u = y - top, x - left
    upper = (1 - u) * map_[top][left] + u * map_[top][right]
    lower = (1 - u) * map_[bottom][left] + u * map_[bottom][right]
    return (1 - v) * upper + v * lower


def resize(map_, height, width):
    """Bilinear interpolation at the centres of ``height`` x ``width`` pixels, as nested lists."""
    down, across = len(map_) / height, len(map_[0]) / width
    return [
        [at(map_, (i + 0.5) * down - 0.5, (j + 0.5) * across - 0.5) for j in range(width)]
        for i in range(height)
    ]


def attended(map_, height, width, threshold):
    """The pixels, (row, column), whose value between the map's extremes is above the threshold."""
    values = resize(map_, height, width)
    low, high = min(map(min, values)), max(map(max, values))
    if low == high:
        return set()
    return {
        (i, j) for i in range(height) for j in range(width) if (values[i][j] - low) / (high - low) > threshold
    }


def box(map_, height, width, threshold):
    """x1, y1, x2, y2 around the attended pixels, the last two outside."""
    pixels = attended(map_, height, width, threshold)
    if not pixels:
        return [0, 0, width, height]
    rows, columns = [i for i, _ in pixels], [j for _, j in pixels]
    return [min(columns), min(rows), max(columns) + 1, max(rows) + 1]


class Centres:
    """The centre loss and its moving averages, one class's list of numbers each."""

    def __init__(self, classes, size, beta, normalise):
        self.centres = [[0.0] * size for _ in range(classes)]
        self.beta, self.normalise = beta, normalise

    def of(self, label):
        centre = self.centres[label]
        norm = math.sqrt(sum(c * c for c in centre))
        return [c / norm for c in centre] if self.normalise and norm else centre

    def loss(self, features, labels):
        distances = [
            sum((f - c) ** 2 for f, c in zip(feature, self.of(label)))
            for feature, label in zip(features, labels)
        ]
        return sum(distances) / len(distances)

    def update(self, features, labels):
        targets = [self.of(label) for label in labels]
        for feature, label, centre in zip(features.tolist(), labels, targets):
            moved = zip(self.centres[label], feature, centre)
            self.centres[label] = [now + self.beta * (f - c) for now, f, c in moved]
