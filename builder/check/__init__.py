"""What the server would say of a repository, told without it: repository -> models -> rules -> findings -> report."""
