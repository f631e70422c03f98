"""The phases of a release and everything else that is done on a host. Only this folder is sent there; it imports the standard library and itself."""
