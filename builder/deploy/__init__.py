"""Files that run a repository elsewhere. A target is a module with frozen options and a pure `render`.

`render(models, options)` gives texts by relative file name; `files.write` alone touches the disk.
"""
