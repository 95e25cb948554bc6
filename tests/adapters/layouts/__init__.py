"""Writers of small recordings in every known layout, from the layouts' descriptions alone."""
