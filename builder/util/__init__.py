"""What has nothing to do with networks or servers: files of YAML and text, templates, foreign code and its errors."""
