"""An index that answers a distribution of scores without reading the rows."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    columns = ["product", "version", "time", "score", "p_value", "is_anomalous"]
    op.create_index("ix_judgements_scores", "judgements", columns)
