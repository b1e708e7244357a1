"""Writes graph_reference.json: outputs of PyTorch Geometric's layers on a small graph.

    python tests/models/make_graph_reference.py

It needs torch and torch_geometric, which nothing else does; the tests read the file.
"""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["main"]

USERS, ITEMS, WIDTH, OUT, HEADS = 4, 3, 3, 2, 2
# User 3 and item 2 have no edge.
USER, ITEM, WEIGHT = [0, 0, 1, 2], [0, 1, 1, 0], [1.0, 0.5, 2.0, 1.5]
TARGET = Path(__file__).with_name("graph_reference.json")


def main() -> None:
    import torch  # pyrefly: ignore[missing-import]
    from torch_geometric.nn import GATConv, GCNConv, LGConv, SAGEConv  # pyrefly: ignore

    torch.set_default_dtype(torch.float64)
    rng = np.random.default_rng(0)
    nodes = rng.normal(size=(USERS + ITEMS, WIDTH))
    seen_as = rng.normal(size=(USERS + ITEMS, HEADS * OUT))
    user, item = torch.tensor(USER), torch.tensor(ITEM) + USERS
    edges = torch.stack([torch.cat([user, item]), torch.cat([item, user])])
    weight = torch.tensor(WEIGHT * 2)

    def judged(layer: Any, *given: Any) -> dict[str, Any]:
        """Draws a layer's parameters; its output, and the gradient of a sum over it."""
        for parameter in layer.parameters():
            parameter.data = torch.tensor(rng.normal(size=tuple(parameter.shape)))
        x = torch.tensor(nodes, requires_grad=True)
        out = layer(x, edges, *given)
        torch.sum(out * torch.tensor(seen_as[:, : out.shape[1]])).backward()
        named = {name: leaf.detach().tolist() for name, leaf in layer.named_parameters()}
        assert x.grad is not None  # Its type has no value before a backward pass.
        return {"params": named, "out": out.tolist(), "gradient": x.grad.tolist()}

    found = {
        "graph": {"user": USER, "item": ITEM, "weight": WEIGHT, "users": USERS, "items": ITEMS},
        "nodes": nodes.tolist(),
        "seen_as": seen_as.tolist(),
        "gcn": judged(GCNConv(WIDTH, OUT), weight),
        "gat": judged(GATConv(WIDTH, OUT, heads=HEADS)),
        "gat, mean": judged(GATConv(WIDTH, OUT, heads=HEADS, concat=False)),
        "sage": judged(SAGEConv(WIDTH, OUT)),
        "light": judged(LGConv(), weight),
        "versions": {name: version(name) for name in ("torch", "torch_geometric")},
    }
    TARGET.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
