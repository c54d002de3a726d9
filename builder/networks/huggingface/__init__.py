"""Networks of Hugging Face's transformers, out of snapshots: `hf/ORG/NAME[@REVISION]` of the hub, or `hf:DIR` here.

family.py is what the registry has; names.py: how they are written; snapshot.py: a folder, and what is in it; hub.py: how it
comes from the hub; loading.py: the module with its weights; texts.py: what reads texts.
"""
