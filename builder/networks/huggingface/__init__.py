"""Networks of Hugging Face's transformers, out of snapshots: `hf/ORG/NAME[@REVISION]` of the hub, or `hf:DIR` here.

family.py is what the registry has; names.py: how they are written; snapshot.py: a folder, and what is in it; hub.py:
how it comes from the hub; kinds.py: what it is for; loading.py: the module with its weights; texts.py, pictures.py,
detectors.py, segmenters.py: what stands around those of each task.
"""
