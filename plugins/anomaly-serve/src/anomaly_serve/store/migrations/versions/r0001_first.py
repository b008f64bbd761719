"""Products, versions, settings, judgements with their images, changes, alarms, jobs and states."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    name = sa.String(100)
    op.create_table(
        "products",
        sa.Column("name", name, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("active", sa.Integer),
        sa.PrimaryKeyConstraint("name", name="pk_products"),
    )
    op.create_table(
        "versions",
        sa.Column("product", name, nullable=False),
        sa.Column("number", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("parent", sa.Integer),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("product", "number", name="pk_versions"),
        sa.ForeignKeyConstraint(["product"], ["products.name"], name="fk_versions_products"),
    )
    op.create_table(
        "settings",
        sa.Column("product", name, nullable=False),
        sa.Column("version", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("number", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("calibration", sa.Text, nullable=False),
        sa.Column("least_area", sa.Double),
        sa.Column("time", sa.Double, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("product", "version", "number", name="pk_settings"),
        sa.ForeignKeyConstraint(["product", "version"], ["versions.product", "versions.number"], name="fk_settings_versions"),
    )
    op.create_table(
        "judgements",
        sa.Column("id", sa.String(26), nullable=False),
        sa.Column("product", name, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("settings", sa.Integer, nullable=False),
        sa.Column("time", sa.Double, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("score", sa.Double, nullable=False),
        sa.Column("p_value", sa.Double),
        sa.Column("threshold", sa.Double),
        sa.Column("is_anomalous", sa.Boolean),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("mark", sa.String(10)),
        sa.Column("regions", sa.Text),
        sa.Column("times", sa.Text, nullable=False),
        sa.Column("facts", sa.Text, nullable=False),
        sa.Column("suffix", sa.String(8)),
        sa.Column("image_size", sa.BigInteger, nullable=False),
        sa.Column("image_crc", sa.BigInteger),
        sa.Column("image_gone", sa.String(10)),
        sa.Column("rank", sa.SmallInteger, nullable=False),
        sa.Column("place", sa.String(8), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_judgements"),
        sa.ForeignKeyConstraint(
            ["product", "version", "settings"],
            ["settings.product", "settings.version", "settings.number"],
            name="fk_judgements_settings",
        ),
    )
    op.create_index("ix_judgements_time", "judgements", ["product", "time", "is_anomalous"])
    _partial("ix_judgements_anomalous", ["product", "time"], "is_anomalous IS 1", "is_anomalous IS true")
    _partial("ix_judgements_mark", ["product", "mark", "time"], "mark IS NOT NULL")
    _partial("ix_judgements_image", ["place", "rank", "time", "image_size"], "image_size > 0")
    op.create_table(
        "changes",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("time", sa.Double, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("product", name, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("facts", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_changes"),
    )
    op.create_index("ix_changes_time", "changes", ["product", "time"])
    op.create_table(
        "alarms",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("product", name, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("time", sa.Double, nullable=False),
        sa.Column("since", sa.Double, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("facts", sa.Text, nullable=False),
        sa.Column("acknowledged", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_alarms"),
        sa.ForeignKeyConstraint(["product", "version"], ["versions.product", "versions.number"], name="fk_alarms_versions"),
    )
    op.create_index("ix_alarms_time", "alarms", ["product", "time"])
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("product", name, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("updated", sa.Double, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("progress", sa.Double),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("facts", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
    )
    op.create_index("ix_jobs_created", "jobs", ["product", "created"])
    op.create_table(
        "states",
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_states"),
    )


def _partial(name: str, columns: list[str], where: str, elsewhere: str | None = None) -> None:
    """An index of some rows, in the words of SQLite and of PostgreSQL."""
    postgresql = sa.text(elsewhere or where)
    op.create_index(name, "judgements", columns, sqlite_where=sa.text(where), postgresql_where=postgresql)
