"""The Hansa SDK: the site runner and the researcher's client.

Import what you need from its modules: `hansa.client` to talk to a hub, `hansa.trainer` for what
a site implements, `hansa.pytorch` for PyTorch (needs torch), `hansa.runner` to run a site from
your own program. Nothing here imports torch.
"""

__version__ = "0.1.0"
