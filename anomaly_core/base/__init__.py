"""The interfaces that plugins implement, one file each; imports nothing by itself."""
