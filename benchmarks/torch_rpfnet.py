"""The released RPFNet in plain PyTorch, the other side of the benchmarks, written from its description.

Images are (B, 1, H, W) float32 in [0, 1]. Parameter names and layouts are those of the released network, so
that its weights load by name.
"""

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

STAGES = 3
TEXTURE_WEIGHT = 0.3
STRUCTURE_WEIGHT = 5.0


def conv_block(inputs: int, outputs: int, kernel: int = 3, dilation: int = 1) -> nn.Sequential:
    """Convolution that keeps the size, batch norm, ReLU."""
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def reconstruction_head(channels: int) -> nn.Sequential:
    """Maps features to one image in (0, 1)."""
    return nn.Sequential(
        *conv_block(channels, channels),
        *conv_block(channels, channels // 2),
        nn.Conv2d(channels // 2, 1, 3, padding=1),
        nn.Sigmoid(),
    )


class CrossPromotion(nn.Module):
    """CPM: the residual branch gates the fusion branch, the fusion branch feeds the residual branch."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spatial_to_freq = nn.Sequential(
            nn.Conv2d(channels, channels, 1),
            nn.BatchNorm2d(channels),
            nn.Sigmoid(),
        )
        self.freq_to_spatial = conv_block(channels, channels)

    def forward(self, residual: Tensor, fusion: Tensor) -> tuple[Tensor, Tensor]:
        promoted_fusion = fusion * self.spatial_to_freq(residual) + fusion
        promoted_residual = self.freq_to_spatial(fusion) + residual
        return promoted_residual, promoted_fusion


class SpatialAttention(nn.Module):
    """Holds the parameters of the released spatial attention; see `ResidualPrior`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spatial_net = nn.Sequential(
            nn.Conv2d(channels, channels // 2, 1),
            nn.BatchNorm2d(channels // 2),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // 2, 1, 7, padding=3),
            nn.Sigmoid(),
        )


class ChannelAttention(nn.Module):
    """Holds the parameters of the released channel attention; see `ResidualPrior`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, channels // 4),
            nn.ReLU(inplace=True),
            nn.Linear(channels // 4, channels),
            nn.Sigmoid(),
        )


class ResidualPrior(nn.Module):
    """RPM: three dilated convolutions side by side, mixed by a 1x1 convolution.

    The released network also computes channel and spatial attention here and drops the result. The parameters
    are kept, for the names and the count; the computation is skipped, because a compiler removes dead code by
    itself and the comparison is to be one of equal work.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        branches = [conv_block(channels, channels, dilation=rate) for rate in (1, 3, 5)]
        self.dilated_convs = nn.ModuleList(branches)
        self.spatial_attention = SpatialAttention(channels)
        self.channel_attention = ChannelAttention(channels)
        self.fusion = nn.Conv2d(3 * channels, channels, 1)

    def forward(self, residual: Tensor) -> Tensor:
        return self.fusion(torch.cat([conv(residual) for conv in self.dilated_convs], dim=1))


class FrequencyFusion(nn.Module):
    """FDFM: a 3x3 convolution in space beside a 1x1 convolution of the spectrum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_layer = nn.Conv2d(2 * channels, 2 * channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(2 * channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv_spatial = conv_block(channels, channels)

    def forward(self, fusion: Tensor) -> Tensor:
        batch, channels, height, width = fusion.shape
        spectrum = torch.view_as_real(torch.fft.rfft2(fusion, norm="ortho"))
        # (B, C, H, W', 2) to (B, 2C, H, W'): real and imaginary part of a channel are neighbours.
        spectrum = spectrum.permute(0, 1, 4, 2, 3).reshape(batch, 2 * channels, height, -1)
        spectrum = self.relu(self.bn(self.conv_layer(spectrum)))
        spectrum = spectrum.view(batch, channels, 2, height, -1).permute(0, 1, 3, 4, 2)
        spectrum = torch.view_as_complex(spectrum.contiguous())
        return self.conv_spatial(fusion) + torch.fft.irfft2(spectrum, s=(height, width), norm="ortho")


class IterationBlock(nn.Module):
    """One stage: CPM, then RPM and FDFM on its outputs."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fourier_branch = FrequencyFusion(channels)
        self.residual_branch = ResidualPrior(channels)
        self.cross_promotion = CrossPromotion(channels)

    def forward(self, residual: Tensor, fusion: Tensor) -> tuple[Tensor, Tensor]:
        residual, fusion = self.cross_promotion(residual, fusion)
        return self.residual_branch(residual), self.fourier_branch(fusion)


class FusionNetwork(nn.Module):
    """The fusion network, 72,074 parameters: one block whose weights all stages share."""

    def __init__(self, channels: int = 32, stages: int = STAGES) -> None:
        super().__init__()
        self.stages = stages
        self.init_spatial = conv_block(1, channels)
        self.init_freq = conv_block(2, channels)
        self.iteration_block = IterationBlock(channels)
        self.decoder = reconstruction_head(channels)

    def forward(self, visible: Tensor, infrared: Tensor) -> tuple[Tensor, Tensor]:
        """Returns (fused image, residual features after the last stage)."""
        residual = self.init_spatial(infrared - visible)
        fusion = self.init_freq(torch.cat([visible, infrared], dim=1))
        for _ in range(self.stages):
            residual, fusion = self.iteration_block(residual, fusion)
        return self.decoder(residual + fusion), residual


class AuxiliaryDecoder(nn.Module):
    """Residual features to the map M' that the saliency loss looks at; used in training only."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.decoder = reconstruction_head(channels)

    def forward(self, residual: Tensor) -> Tensor:
        return self.decoder(residual)


def _standardise(image: Tensor) -> Tensor:
    return (image - image.mean()) / image.std()


@torch.no_grad()
def contrastive_mask(visible: Tensor, infrared: Tensor) -> Tensor:
    """w of Eq. 9: where the infrared image and its excess over the visible one are high.

    Means and deviations are those of the whole batch.
    """
    thermal = torch.sigmoid(_standardise(infrared))
    excess = torch.sigmoid(_standardise(infrared - visible))
    enhanced = (thermal * (1 + excess) + excess * (1 + thermal)) / 2
    return (enhanced > enhanced.mean() + enhanced.std()).to(infrared.dtype)


def contrastive_loss(fused: Tensor, visible: Tensor, infrared: Tensor) -> Tensor:
    """Eq. 10-12: distances of spectra, to the pairs to be kept over to those to be avoided."""
    mask = contrastive_mask(visible, infrared)
    rest = 1 - mask
    # The transform is linear: of each pair only the difference is transformed.
    differences = torch.stack(
        [
            (fused - infrared) * mask,
            (fused - visible) * rest,
            fused * mask - infrared * rest,
            (fused - visible) * mask,
            (fused - infrared) * rest,
            fused * rest - visible * mask,
        ]
    )
    distances = torch.fft.fft2(differences).abs().mean(dim=(1, 2, 3, 4))
    return distances[:2].sum() / (distances[2:].sum() + 1e-10)


def structure_loss(fused: Tensor, visible: Tensor, infrared: Tensor) -> Tensor:
    """Eq. 13: (1 - SSIM) / 2 to each source, Gaussian 3x3 window of sigma 1.5, reflected edges."""
    offsets = torch.tensor([-1.0, 0.0, 1.0], dtype=fused.dtype, device=fused.device)
    taps = torch.exp(-(offsets**2) / (2 * 1.5**2))
    taps = taps / taps.sum()
    window = torch.outer(taps, taps)[None, None]
    maps = [fused, visible, infrared, fused**2, visible**2, infrared**2, fused * visible, fused * infrared]
    # All averages in one convolution, the maps lying along the batch axis.
    averages = functional.conv2d(functional.pad(torch.cat(maps), (1, 1, 1, 1), mode="reflect"), window)
    mean_f, mean_v, mean_i, square_f, square_v, square_i, product_v, product_i = averages.chunk(8)

    def dissimilarity(mean: Tensor, square: Tensor, product: Tensor) -> Tensor:
        c1, c2 = 0.01**2, 0.03**2
        variances = (square_f - mean_f**2) + (square - mean**2)
        covariance = product - mean_f * mean
        ssim = ((2 * mean_f * mean + c1) * (2 * covariance + c2)) / (
            (mean_f**2 + mean**2 + c1) * (variances + c2) + 1e-12
        )
        return ((1 - ssim) / 2).clamp(0, 1).mean()

    return dissimilarity(mean_v, square_v, product_v) + dissimilarity(mean_i, square_i, product_i)


def sobel_magnitude(image: Tensor) -> Tensor:
    """Sobel gradient magnitude, zero padding; the small term keeps the root's gradient finite."""
    horizontal = torch.tensor(
        [[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], dtype=image.dtype, device=image.device
    )
    gradient = functional.conv2d(image, torch.stack([horizontal, horizontal.T])[:, None], padding=1)
    return torch.sqrt(gradient.square().sum(dim=1, keepdim=True) + 1e-6)


def saliency_loss(aux_map: Tensor, visible: Tensor, infrared: Tensor) -> Tensor:
    """Eq. 5-7: edges like the infrared image's, response to its hot parts and to visible texture."""
    aux_edges, infrared_edges = sobel_magnitude(aux_map), sobel_magnitude(infrared)
    aux_edges = aux_edges / (aux_edges.max() + 1e-6)
    infrared_edges = infrared_edges / (infrared_edges.max() + 1e-6)
    visible_edges = sobel_magnitude(visible)
    texture = (visible_edges > visible_edges.mean()).to(aux_map.dtype)
    hot = (infrared > infrared.mean() + infrared.std()).to(aux_map.dtype)
    return (
        functional.mse_loss(aux_edges, infrared_edges)
        - TEXTURE_WEIGHT * (aux_map * texture).mean()
        - (aux_map * hot).mean()
    )


def total_loss(fused: Tensor, aux_map: Tensor, visible: Tensor, infrared: Tensor) -> Tensor:
    """Eq. 8 and 14."""
    return (
        contrastive_loss(fused, visible, infrared)
        + STRUCTURE_WEIGHT * structure_loss(fused, visible, infrared)
        + saliency_loss(aux_map, visible, infrared)
    )


class Trainer:
    """Both networks, each with its own Adam."""

    def __init__(self) -> None:
        self.network = FusionNetwork().train()
        self.auxiliary = AuxiliaryDecoder().train()
        modules = (self.network, self.auxiliary)
        self.optimizers = [torch.optim.Adam(module.parameters(), lr=1e-3) for module in modules]

    def load(self, parameters: Mapping[str, np.ndarray]) -> None:
        """Loads parameters by torch name, the auxiliary decoder's under the prefix `aux.`.

        Everything that training computes with must be there. Running statistics and the dropped attention may
        be absent.
        """
        for module, prefix in ((self.network, ""), (self.auxiliary, "aux.")):
            state = {
                name[len(prefix) :]: torch.tensor(value)
                for name, value in parameters.items()
                if name.startswith("aux.") == bool(prefix)
            }
            missing, unexpected = module.load_state_dict(state, strict=False)
            needed = dict(module.named_parameters()).keys()
            missing = [name for name in missing if name in needed and "_attention." not in name]
            if missing or unexpected:
                raise ValueError(f"parameters under {prefix!r}: missing {missing}, unexpected {unexpected}")


def train_step(trainer: Trainer, visible: Tensor, infrared: Tensor) -> float:
    """One step of both networks on one batch; returns the loss before the update."""
    for optimizer in trainer.optimizers:
        optimizer.zero_grad()
    fused, residual = trainer.network(visible, infrared)
    loss = total_loss(fused, trainer.auxiliary(residual), visible, infrared)
    loss.backward()
    for optimizer in trainer.optimizers:
        optimizer.step()
    return loss.item()
