"""An index that answers a distribution of scores without reading the rows; and which verdict a change is about."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    columns = ["product", "version", "time", "score", "p_value", "is_anomalous"]
    op.create_index("ix_judgements_scores", "judgements", columns)
    op.add_column("changes", sa.Column("subject", sa.String(26)))
    some = sa.text("subject IS NOT NULL")
    op.create_index("ix_changes_subject", "changes", ["subject"], sqlite_where=some, postgresql_where=some)
