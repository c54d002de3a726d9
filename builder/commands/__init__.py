"""build-repo's commands, a file each: parse -> call -> print."""
