"""Muon for the matrices of the encoder, AdamW for everything else."""

import torch


def orthogonalise(matrices):
    """The nearest orthogonal matrix of each of a stack [n, rows, columns], by five Newton-Schulz steps."""
    x = matrices.to(torch.bfloat16)
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return (x.mT if tall else x).float()


class Muon(torch.optim.Optimizer):
    """Momentum whose steps are orthogonalised. `lr` is the size of a step's entries, as AdamW's is, so weight decay means the same."""

    def __init__(self, parameters, lr, momentum=0.95, weight_decay=0.1):
        super().__init__(parameters, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            stacks = {}
            for parameter in group["params"]:
                stacks.setdefault(parameter.shape, []).append(parameter)
            for shape, parameters in stacks.items():
                steps = []
                for parameter in parameters:
                    state = self.state[parameter]
                    if not state:
                        state["momentum"] = torch.zeros_like(parameter)
                    state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                    steps.append(parameter.grad.lerp(state["momentum"], group["momentum"]))
                steps = orthogonalise(torch.stack(steps))
                # An orthogonal r × c matrix has entries of size max(r, c) ** -0.5: bring them to 1.
                for parameter, step in zip(parameters, steps):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(step, alpha=-group["lr"] * max(shape) ** 0.5)


def create(model, lr_matrices, lr_rest, weight_decay):
    """The optimizers, each of its own parameters, so that processes can share the work. Muon's is most of it, hence in two."""
    matrices, decayed, plain, heads = [], [], [], []
    for name, parameter in model.named_parameters():
        if not name.startswith(("bert.", "cls.")):
            heads.append(parameter)  # of training only
        elif ".encoder.layer." in name and parameter.ndim == 2:
            matrices.append(parameter)
        else:
            (decayed if parameter.ndim == 2 else plain).append(parameter)
    half = len(matrices) // 2
    return [
        Muon(matrices[:half], lr=lr_matrices, weight_decay=weight_decay),
        Muon(matrices[half:], lr=lr_matrices, weight_decay=weight_decay),
        torch.optim.AdamW(
            [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}],
            lr=lr_rest, betas=(0.9, 0.98), eps=1e-8,
        ),
        torch.optim.AdamW(heads, lr=lr_rest, betas=(0.9, 0.98), weight_decay=0.0),
    ]  # fmt: skip
