"""The methods of ltbench, one file each. `ltbench ls methods` lists them; `ltbench new NAME` starts another."""
