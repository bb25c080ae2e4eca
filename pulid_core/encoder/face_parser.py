"""BiSeNet face parsing, and the masked gray crop that PuLID's vision branch sees."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checkpoint import load_strict, read_state_dict

CLASS_COUNT = 19  # CelebAMask-HQ
BACKGROUND_LABELS = {
    0: "background",
    7: "left ear",
    8: "right ear",
    9: "ear-ring",
    14: "neck",
    15: "necklace",
    16: "cloth",
    18: "hat",
}
"""Classes that become white. PuLID pulid/pipeline_flux.py; hair (17) and glasses (6) stay."""

TRAINING_HEADS = ("conv_out16.", "conv_out32.")
"""Auxiliary outputs in the checkpoint that only training uses."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LUMA = (0.299, 0.587, 0.114)


class ConvNormRelu(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3):
        super().__init__()
        padding = kernel_size // 2
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H, W)."""
        return F.relu(self.bn(self.conv(x)))


class AttentionRefinement(nn.Module):
    """Scales the channels of a feature map by its own global average."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = ConvNormRelu(in_channels, out_channels)
        self.conv_atten = nn.Conv2d(out_channels, out_channels, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H, W)."""
        features = self.conv(x)
        gate = self.bn_atten(self.conv_atten(features.mean((2, 3), keepdim=True)))
        return features * gate.sigmoid()


class ContextPath(nn.Module):
    """ResNet-18 features refined from stride 32 down to stride 8."""

    def __init__(self):
        from torchvision.models import resnet18

        super().__init__()
        self.resnet = resnet18(weights=None)
        del self.resnet.fc  # the parser has no classifier
        self.arm16 = AttentionRefinement(256, 128)
        self.arm32 = AttentionRefinement(512, 128)
        self.conv_head32 = ConvNormRelu(128, 128)
        self.conv_head16 = ConvNormRelu(128, 128)
        self.conv_avg = ConvNormRelu(512, 128, kernel_size=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) -> ResNet features and context, both (B, 128, H/8, W/8)."""
        net = self.resnet
        x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
        stride8 = net.layer2(net.layer1(x))
        stride16 = net.layer3(stride8)
        stride32 = net.layer4(stride16)

        average = self.conv_avg(stride32.mean((2, 3), keepdim=True))
        context32 = self.arm32(stride32) + average
        context16 = self.conv_head32(F.interpolate(context32, stride16.shape[2:]))
        context16 = self.arm16(stride16) + context16
        return stride8, self.conv_head16(F.interpolate(context16, stride8.shape[2:]))


class FeatureFusion(nn.Module):
    """Merges spatial and context features with channel attention."""

    def __init__(self, channels: int):
        super().__init__()
        self.convblk = ConvNormRelu(channels, channels, kernel_size=1)
        self.conv1 = nn.Conv2d(channels, channels // 4, 1, bias=False)
        self.conv2 = nn.Conv2d(channels // 4, channels, 1, bias=False)

    def forward(self, spatial: Tensor, context: Tensor) -> Tensor:
        """Two (B, channels / 2, H, W) -> (B, channels, H, W)."""
        features = self.convblk(torch.cat((spatial, context), dim=1))
        gate = self.conv2(F.relu(self.conv1(features.mean((2, 3), keepdim=True))))
        return features * gate.sigmoid() + features


class ClassHead(nn.Module):
    """Class scores from fused features."""

    def __init__(self, in_channels: int, mid_channels: int):
        super().__init__()
        self.conv = ConvNormRelu(in_channels, mid_channels)
        self.conv_out = nn.Conv2d(mid_channels, CLASS_COUNT, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, 19, H, W)."""
        return self.conv_out(self.conv(x))


class FaceParser(nn.Module):
    """BiSeNet: which pixel of an aligned face is hair, skin, cloth, background."""

    def __init__(self):
        super().__init__()
        self.cp = ContextPath()
        self.ffm = FeatureFusion(256)
        self.conv_out = ClassHead(256, 256)

    def forward(self, faces: Tensor) -> Tensor:
        """Label every pixel.

        Args:
            faces: Aligned RGB crops, (B, 3, 512, 512) in [0, 1].

        Returns:
            CelebAMask-HQ class numbers, (B, 512, 512) int64.
        """
        mean = faces.new_tensor(IMAGENET_MEAN).view(1, 3, 1, 1)
        std = faces.new_tensor(IMAGENET_STD).view(1, 3, 1, 1)
        pixels = ((faces - mean) / std).contiguous(memory_format=torch.channels_last)
        scores = self.conv_out(self.ffm(*self.cp(pixels)))
        scores = F.interpolate(scores, faces.shape[2:], mode="bilinear", align_corners=True)
        return scores.argmax(dim=1)


def load_face_parser(path: str | Path) -> FaceParser:
    """Load facexlib's parsing_bisenet weights, float32.

    Raises:
        CheckpointError: The file is damaged or not a BiSeNet.
    """
    weights = {k: v for k, v in read_state_dict(path).items() if not k.startswith(TRAINING_HEADS)}
    parser = load_strict(lambda _: FaceParser(), weights, path).float()
    return parser.to(memory_format=torch.channels_last)  # a quarter faster on CPUs


def mask_background(faces: Tensor, labels: Tensor) -> Tensor:
    """Paint the background white and the rest gray, as PuLID was trained.

    Args:
        faces: RGB crops, (B, 3, H, W) in [0, 1].
        labels: Class numbers from FaceParser, (B, H, W).

    Returns:
        (B, 3, H, W) in [0, 1], three equal channels.
    """
    background = torch.isin(labels, labels.new_tensor(list(BACKGROUND_LABELS)))
    gray = (faces * faces.new_tensor(LUMA).view(1, 3, 1, 1)).sum(dim=1)  # (B, H, W)
    return torch.where(background, 1.0, gray).unsqueeze(1).expand_as(faces)
