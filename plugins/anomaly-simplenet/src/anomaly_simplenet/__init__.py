"""SuperSimpleNet."""
