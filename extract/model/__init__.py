"""Running a network: the forward pass in torch, its named activations, and the oracle that answers from it.

This room computes activations and refuses to know file formats, programs and proofs. Importing the package loads no
torch; its modules do.
"""
