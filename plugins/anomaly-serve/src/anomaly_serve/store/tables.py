"""The tables. Every change here is a new revision in ``migrations/versions``; a test compares the two."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    text,
)

VERSION_TABLE = "anomaly_revision"  # not alembic's usual name: another program in the database may have that
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

products = Table(
    "products",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("created", Double, nullable=False),
    Column("who", Text, nullable=False),
    Column("active", Integer),  # the number of the version that judges
)

versions = Table(
    "versions",
    metadata,
    Column("product", String(100), ForeignKey("products.name"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("path", Text, nullable=False),
    Column("parent", Integer),
    Column("created", Double, nullable=False),
    Column("who", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("files_removed", Double),  # when the service removed the run; null: its files are there
    Column("files_removed_why", Text),
)

settings = Table(
    "settings",
    metadata,
    Column("product", String(100), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("calibration", Text, nullable=False),  # JSON
    Column("least_area", Double),
    Column("time", Double, nullable=False),
    Column("who", Text, nullable=False),
    Column("why", Text, nullable=False),
    ForeignKeyConstraint(["product", "version"], ["versions.product", "versions.number"]),
)

judgements = Table(
    "judgements",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("product", String(100), nullable=False),
    Column("version", Integer, nullable=False),
    Column("settings", Integer, nullable=False),
    Column("time", Double, nullable=False),
    Column("source", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("score", Double, nullable=False),
    Column("p_value", Double),
    Column("threshold", Double),
    Column("is_anomalous", Boolean),
    Column("height", Integer, nullable=False),
    Column("width", Integer, nullable=False),
    Column("mark", String(10)),
    Column("regions", Text),  # JSON, as are the next two
    Column("times", Text, nullable=False),
    Column("facts", Text, nullable=False),
    Column("suffix", String(8)),  # of the image, if one was given to be kept
    Column("image_size", BigInteger, nullable=False),  # bytes on disk; 0 for none
    Column("image_crc", BigInteger),  # CRC-32: a power cut may leave a file of the right size that holds zeros
    Column("image_gone", String(10)),  # why there is none: `quota`, `failed` or `lost`
    Column("rank", SmallInteger, nullable=False),  # images of the least rank go first
    Column("place", String(8), nullable=False),  # the folder that has the image, where several services share a database
    # so that every verdict can be explained
    ForeignKeyConstraint(["product", "version", "settings"], ["settings.product", "settings.version", "settings.number"]),
    Index("ix_judgements_time", "product", "time", "is_anomalous"),
    # with all that a search for a name looks at
    Index("ix_judgements_name", "product", "time", "name"),
    # with all that a distribution of scores needs, so that the rows are not read
    Index("ix_judgements_scores", "product", "version", "time", "score", "p_value", "is_anomalous"),
    Index(
        "ix_judgements_anomalous",
        "product",
        "time",
        sqlite_where=text("is_anomalous IS 1"),
        postgresql_where=text("is_anomalous IS true"),
    ),
    Index(
        "ix_judgements_mark",
        "product",
        "mark",
        "time",
        sqlite_where=text("mark IS NOT NULL"),
        postgresql_where=text("mark IS NOT NULL"),
    ),
    Index(
        "ix_judgements_image",
        "place",
        "rank",
        "time",
        "image_size",
        sqlite_where=text("image_size > 0"),
        postgresql_where=text("image_size > 0"),
    ),
)

changes = Table(
    "changes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("time", Double, nullable=False),
    Column("who", Text, nullable=False),
    Column("product", String(100), nullable=False),
    Column("action", Text, nullable=False),
    Column("facts", Text, nullable=False),  # JSON
    Column("subject", String(26)),  # the id of the verdict that it is about
    Index("ix_changes_time", "product", "time"),
    Index(
        "ix_changes_subject",
        "subject",
        sqlite_where=text("subject IS NOT NULL"),
        postgresql_where=text("subject IS NOT NULL"),
    ),
)

alarms = Table(
    "alarms",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("product", String(100), nullable=False),
    Column("version", Integer, nullable=False),
    Column("time", Double, nullable=False),
    Column("since", Double, nullable=False),
    Column("text", Text, nullable=False),
    Column("facts", Text, nullable=False),  # JSON
    Column("acknowledged", Double),
    ForeignKeyConstraint(["product", "version"], ["versions.product", "versions.number"]),
    Index("ix_alarms_time", "product", "time"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("product", String(100), nullable=False),
    Column("state", String(16), nullable=False),
    Column("created", Double, nullable=False),
    Column("updated", Double, nullable=False),
    Column("who", Text, nullable=False),
    Column("progress", Double),
    Column("message", Text, nullable=False),
    Column("facts", Text, nullable=False),  # JSON
    Index("ix_jobs_created", "product", "created"),
)

states = Table(
    "states",
    metadata,
    Column("key", String(200), primary_key=True),
    Column("value", Text, nullable=False),  # JSON
)
