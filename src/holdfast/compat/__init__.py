"""Names of other libraries, for applications that come from there. Each does what Holdfast's own does; new code needs none."""
