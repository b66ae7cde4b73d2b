"""How far the library's own layers get from scratch, without pretrained vectors."""

EXPERIMENTS = ()
