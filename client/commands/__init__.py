"""The commands of repo-client, a file each: parse -> call -> print."""
