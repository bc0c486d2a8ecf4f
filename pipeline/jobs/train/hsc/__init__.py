"""What `framevault train hsc` learns, stage by stage."""
