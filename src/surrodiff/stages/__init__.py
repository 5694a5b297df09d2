"""What makes runs, a module a stage; all of them by name; what runs cost."""
