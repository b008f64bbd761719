"""An index in which a search for a part of a name finds what it looks at."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_index("ix_judgements_name", "judgements", ["product", "time", "name"])
