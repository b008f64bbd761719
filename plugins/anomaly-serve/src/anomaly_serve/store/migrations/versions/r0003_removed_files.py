"""When and why the files of a version were removed."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("versions", sa.Column("files_removed", sa.Double))
    op.add_column("versions", sa.Column("files_removed_why", sa.Text))
